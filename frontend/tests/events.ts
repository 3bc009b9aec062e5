/** Builds journals for tests: events numbered in order. */

import type { RunEvent } from '@/api/events';

type Loose = { type: RunEvent['type'] } & Record<string, unknown>;

export function journal(...events: Loose[]): RunEvent[] {
  return events.map(
    (event, index) =>
      ({
        run_id: 'run_1',
        seq: index + 1,
        ts: new Date(Date.UTC(2026, 0, 1, 0, 0, index)).toISOString(),
        agent: 'system',
        ...event,
      }) as unknown as RunEvent,
  );
}

export const delta = (message_id: string, text: string, phase = ''): Loose => ({
  type: 'message.delta',
  message_id,
  text,
  phase,
});

export const finished: Loose = { type: 'run.finished', answer: '', files: [] };
