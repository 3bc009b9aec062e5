import { describe, expect, it } from 'vitest';

import type { RunEvent } from '@/api/events';
import { backoffMs, followRun, type StreamStatus } from '@/api/stream';

import { delta, finished, journal } from './events';

const events = journal(delta('m', 'a'), delta('m', 'b'), delta('m', 'ü€'), finished);
const wire = (list: RunEvent[]): string =>
  list.map((event) => `id: ${event.seq}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join('');

type Piece = string | Uint8Array | 'hang';

/** One answer of the server: its pieces, then the end, a broken connection, or silence. */
function answer(pieces: Piece[], then: 'end' | 'break' | 'hang' = 'end') {
  return (signal: AbortSignal): Response => {
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        for (const piece of pieces)
          controller.enqueue(typeof piece === 'string' ? new TextEncoder().encode(piece) : piece);
        if (then === 'end') controller.close();
        signal.addEventListener('abort', () => controller.error(new DOMException('aborted', 'AbortError')));
      },
      pull(controller) {
        if (then === 'break') controller.error(new TypeError('network error'));
      },
    });
    return new Response(body, { status: 200 });
  };
}

const refuse = (status: number, detail = '') => (): Response =>
  new Response(JSON.stringify({ title: 'No', detail }), { status });

async function run(answers: ((signal: AbortSignal) => Response)[], options: { after?: number; silenceMs?: number } = {}) {
  const seen: number[] = [];
  const statuses: StreamStatus[] = [];
  const asked: (string | null)[] = [];
  const waits: number[] = [];
  let error: Error | undefined;
  const stop = new AbortController();
  await followRun(
    'run_1',
    {
      onEvents: (list) => seen.push(...list.map((event) => event.seq)),
      onStatus: (status, failure) => {
        statuses.push(status);
        error = failure;
      },
    },
    {
      ...options,
      signal: stop.signal,
      url: (path) => `http://server/${path}`,
      sleep: async (milliseconds) => void waits.push(milliseconds),
      fetch: async (_url, init) => {
        asked.push(new Headers(init?.headers).get('Last-Event-ID'));
        const next = answers.shift();
        if (next) return next(init?.signal as AbortSignal);
        stop.abort();
        throw new TypeError('no more answers');
      },
    },
  );
  return { seen, statuses, asked, waits, error };
}

describe('followRun', () => {
  it('delivers a whole stream and closes after its terminal event', async () => {
    const { seen, statuses, asked } = await run([answer([wire(events)])]);
    expect(seen).toEqual([1, 2, 3, 4]);
    expect(statuses).toEqual(['connecting', 'live', 'closed']);
    expect(asked).toEqual([null]);
  });

  it('comes back with the last number it saw, and sees every event once', async () => {
    const { seen, asked, statuses } = await run([
      answer([wire(events.slice(0, 2))], 'break'),
      answer([wire(events.slice(1, 3))]),
      answer([wire(events)]),
    ]);
    expect(seen).toEqual([1, 2, 3, 4]);
    expect(asked).toEqual([null, '2', '3']);
    expect(statuses).toEqual(['connecting', 'live', 'reconnecting', 'live', 'reconnecting', 'live', 'closed']);
  });

  it('begins after the number it is given', async () => {
    const { seen, asked } = await run([answer([wire(events.slice(2))])], { after: 2 });
    expect([seen, asked]).toEqual([[3, 4], ['2']]);
  });

  it('reads events that are cut anywhere, even within a character', async () => {
    const bytes = new TextEncoder().encode(`: heartbeat\n\n${wire(events)}`);
    const pieces = [...bytes].map((byte) => new Uint8Array([byte]));
    expect((await run([answer(pieces)])).seen).toEqual([1, 2, 3, 4]);
  });

  it('loses nothing that came before a broken line', async () => {
    const broken = `${wire(events.slice(0, 2))}data: {"seq": 3\n\n`;
    const { seen, asked } = await run([answer([broken]), answer([wire(events.slice(2))])]);
    expect([seen, asked]).toEqual([
      [1, 2, 3, 4],
      [null, '2'],
    ]);
  });

  it('waits longer after each fruitless try, and anew after progress', async () => {
    const { waits } = await run([
      refuse(503),
      refuse(502),
      answer([wire(events.slice(0, 1))]),
      refuse(429),
      answer([wire(events)]),
    ]);
    expect(waits).toEqual([backoffMs(1), backoffMs(2), backoffMs(0), backoffMs(1)]);
  });

  it('gives up a connection that is silent for too long', async () => {
    const { seen, asked } = await run([answer([wire(events.slice(0, 1))], 'hang'), answer([wire(events)])], { silenceMs: 20 });
    expect([seen, asked]).toEqual([
      [1, 2, 3, 4],
      [null, '1'],
    ]);
  });

  it('goes on past the end of a run that was resumed after it', async () => {
    const resumed = journal(finished, { type: 'run.resumed', worker: 'w', reason: 'asked for' }, finished);
    const { seen, statuses } = await run([answer([wire(resumed.slice(0, 1)), wire(resumed.slice(1))])]);
    expect(seen).toEqual([1, 2, 3]);
    expect(statuses.at(-1)).toBe('closed');
  });

  it('does not try again where that is no use', async () => {
    const { statuses, error, asked } = await run([refuse(404, 'There is no such run.')]);
    expect(statuses).toEqual(['connecting', 'failed']);
    expect(error?.message).toBe('There is no such run.');
    expect(asked).toHaveLength(1);
  });
});

describe('backoffMs', () => {
  it('grows to its limit', () => {
    const waits = Array.from({ length: 30 }, (_, attempt) => backoffMs(attempt));
    expect(waits).toEqual(waits.toSorted((a, b) => a - b));
    expect([waits[0], waits.at(-1)]).toEqual([400, 10_000]);
  });
});
