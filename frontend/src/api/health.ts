import { serverUrl } from './client';
import { authHeaders } from './key';
import type { Readiness } from './records';

/** What works and what is degraded; one that can take no run answers 503 with the same body. */
export async function getReadiness(): Promise<Readiness> {
  const response = await fetch(serverUrl('readyz'), { headers: authHeaders() });
  const body = (await response.json()) as Partial<Readiness>;
  return { status: body.status ?? 'degraded', checks: body.checks ?? [] };
}
