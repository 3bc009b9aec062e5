import { serverUrl } from './client';
import { authHeaders } from './key';
import type { Readiness } from './records';

/** What works and what is degraded; one that can take no run answers 503 with the same body. */
export async function getReadiness(): Promise<Readiness> {
  const response = await fetch(serverUrl('readyz'), { headers: authHeaders() });
  const body = (await response.json()) as Partial<Readiness>;
  const readiness: Readiness = { status: body.status ?? 'degraded', checks: body.checks ?? [] };
  remember(readiness);
  return readiness;
}

const NAME = 'orchestrion.readiness';

function remember(readiness: Readiness): void {
  try {
    sessionStorage.setItem(NAME, JSON.stringify(readiness));
  } catch {
    // Forbidden storage: the notice comes a moment later, then.
  }
}

/** What was found last in this tab: looking anew takes a while, and a notice that comes late moves the page. */
export function lastReadiness(): Readiness | undefined {
  try {
    const kept = sessionStorage.getItem(NAME);
    return kept ? (JSON.parse(kept) as Readiness) : undefined;
  } catch {
    return undefined;
  }
}
