import { sendJson } from './client';
import type { AgentName } from './events';
import type { Mode } from './records';

export interface ChatRequest {
  message: string;
  session_id?: string;
  mode?: Mode;
  agent?: AgentName;
  files?: string[];
}

export interface ChatAccepted {
  run_id: string;
  session_id: string;
  stream_url: string;
}

/** Start a run for a goal. */
export function sendGoal(body: ChatRequest): Promise<ChatAccepted> {
  return sendJson('POST', 'api/chat', body);
}
