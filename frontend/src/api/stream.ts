/** Follows a run's events over SSE: every event once, in order, through any number of lost connections. */

import { createParser } from 'eventsource-parser';

import { ApiError, problemError, serverUrl } from './client';
import { isTerminal, type RunEvent } from './events';
import { askForKey, authHeaders, currentKey } from './key';

export type StreamStatus = 'connecting' | 'live' | 'reconnecting' | 'closed' | 'failed';

export interface StreamListener {
  onEvents: (events: RunEvent[]) => void;
  onStatus: (status: StreamStatus, error?: ApiError) => void;
}

export interface StreamOptions {
  signal: AbortSignal;
  /** The last number already seen. */
  after?: number;
  fetch?: typeof fetch;
  url?: (path: string) => string;
  sleep?: (milliseconds: number, signal: AbortSignal) => Promise<void>;
  /** A connection silent for this long is given up; the server's heartbeat comes every 15 s at least. */
  silenceMs?: number;
}

const FIRST_WAIT_MS = 400;
const LONGEST_WAIT_MS = 10_000;
const SILENCE_MS = 40_000;

/** How long to wait before the n-th try in a row (from 0). */
export function backoffMs(attempt: number): number {
  return Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(attempt, 10));
}

function realSleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
  });
}

/** Refusals that trying again does not mend. */
function isFinal(status: number): boolean {
  return status >= 400 && status < 500 && status !== 408 && status !== 425 && status !== 429;
}

class Follower {
  private last: number;
  private ended = false;
  private progressed = false;
  private readonly batch: RunEvent[] = [];

  constructor(
    private readonly runId: string,
    private readonly listener: StreamListener,
    private readonly options: StreamOptions,
  ) {
    this.last = options.after ?? 0;
  }

  async follow(): Promise<void> {
    let attempt = 0;
    this.listener.onStatus('connecting');
    while (!this.options.signal.aborted) {
      this.progressed = false;
      const refusal = await this.connectOnce();
      if (this.options.signal.aborted) return;
      if (refusal) return this.listener.onStatus('failed', refusal);
      if (this.ended) return this.listener.onStatus('closed');
      attempt = this.progressed ? 0 : attempt + 1;
      this.listener.onStatus('reconnecting');
      await (this.options.sleep ?? realSleep)(backoffMs(attempt), this.options.signal);
    }
  }

  /** One connection, until it ends in whatever way; returns the error that makes a further try useless. */
  private async connectOnce(): Promise<ApiError | undefined> {
    const connection = new AbortController();
    const give = (): void => connection.abort();
    this.options.signal.addEventListener('abort', give, { once: true });
    try {
      const used = currentKey();
      const response = await this.open(connection.signal);
      if (response.status === 401) askForKey(used);
      if (!response.ok) return await this.refused(response);
      this.listener.onStatus('live');
      await this.read(response, connection);
    } catch {
      // A lost connection; the caller tries again from the last number seen.
    } finally {
      this.options.signal.removeEventListener('abort', give);
      connection.abort();
    }
    return undefined;
  }

  private open(signal: AbortSignal): Promise<Response> {
    const headers: Record<string, string> = { Accept: 'text/event-stream', ...authHeaders() };
    if (this.last) headers['Last-Event-ID'] = String(this.last);
    const address = (this.options.url ?? serverUrl)(`api/stream/${encodeURIComponent(this.runId)}`);
    return (this.options.fetch ?? fetch)(address, { headers, signal, cache: 'no-store' });
  }

  private async refused(response: Response): Promise<ApiError | undefined> {
    return isFinal(response.status) ? problemError(response.status, await response.text()) : undefined;
  }

  private async read(response: Response, connection: AbortController): Promise<void> {
    if (!response.body) return;
    const parser = createParser({ onEvent: ({ data }) => this.take(data) });
    const decoder = new TextDecoder();
    const reader = response.body.getReader();
    const silence = this.options.silenceMs ?? SILENCE_MS;
    let watchdog = setTimeout(() => connection.abort(), silence);
    try {
      for (;;) {
        const { done, value } = await reader.read();
        clearTimeout(watchdog);
        if (done) return;
        watchdog = setTimeout(() => connection.abort(), silence);
        parser.feed(decoder.decode(value, { stream: true }));
        this.deliver();
      }
    } finally {
      clearTimeout(watchdog);
      // What came before a broken line counts as seen, so it must reach the listener.
      this.deliver();
    }
  }

  private deliver(): void {
    const events = this.batch.splice(0);
    if (events.length) this.listener.onEvents(events);
  }

  private take(data: string): void {
    const event = JSON.parse(data) as RunEvent;
    if (event.seq <= this.last) return;
    this.last = event.seq;
    this.progressed = true;
    // An ended run may have been resumed: only what stands last in a stream that the server closed is its end.
    this.ended = isTerminal(event);
    this.batch.push(event);
  }
}

/** Follow a run until the server closes the stream after a terminal event, a final refusal, or the signal. */
export function followRun(runId: string, listener: StreamListener, options: StreamOptions): Promise<void> {
  return new Follower(runId, listener, options).follow();
}
