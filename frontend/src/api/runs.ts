import { sendJson } from './client';

/** Ask a run to stop; it has stopped once its stream says so. */
export function cancelRun(id: string): Promise<void> {
  return sendJson('POST', `api/runs/${encodeURIComponent(id)}/cancel`);
}
