/** One run as a store that React can subscribe to: its stream, folded into a view. */

import type { ApiError } from '@/api/client';
import { followRun, type StreamStatus } from '@/api/stream';

import { applyEvents } from './reduce';
import { EMPTY_VIEW, type RunView } from './view';

export interface RunSnapshot {
  view: RunView;
  stream: StreamStatus;
  error: ApiError | null;
}

const FRAME_MS = 33;
const REPLAYS_AT_ONCE = 3;
const SETTLED = new Set<StreamStatus>(['closed', 'failed', 'reconnecting']);

/** Lets a few replays through at a time: browsers give a host six connections, and live runs need theirs. */
class Gate {
  private free = REPLAYS_AT_ONCE;
  private readonly waiting: (() => void)[] = [];

  async enter(): Promise<void> {
    if (this.free > 0) this.free -= 1;
    else await new Promise<void>((resolve) => this.waiting.push(resolve));
  }

  leave(): void {
    // The newest waits at the end, and is the one the user looks at.
    const next = this.waiting.pop();
    if (next) next();
    else this.free += 1;
  }
}

const gate = new Gate();

export class RunStore {
  private snapshot: RunSnapshot = { view: EMPTY_VIEW, stream: 'connecting', error: null };
  private readonly listeners = new Set<() => void>();
  private pending: RunSnapshot = this.snapshot;
  private timer: ReturnType<typeof setTimeout> | null = null;
  private shownAt = 0;

  /** A replay (`live` false) shows once, when it is whole; its turn comes as connections are free. */
  constructor(
    private readonly runId: string,
    private readonly live: boolean,
  ) {}

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  readonly get = (): RunSnapshot => this.snapshot;

  /** Follow the run until its end or the signal. */
  async follow(signal: AbortSignal): Promise<void> {
    if (this.live) return this.stream(signal);
    await gate.enter();
    try {
      if (!signal.aborted) await this.stream(signal);
    } finally {
      gate.leave();
    }
  }

  private stream(signal: AbortSignal): Promise<void> {
    return followRun(
      this.runId,
      {
        onEvents: (events) => this.change({ view: applyEvents(this.pending.view, events) }),
        onStatus: (stream, error) => this.change({ stream, error: error ?? null }),
      },
      { signal, after: this.pending.view.lastSeq },
    );
  }

  /** The first change shows at once, those that follow within a frame show together. */
  private change(part: Partial<RunSnapshot>): void {
    this.pending = { ...this.pending, ...part };
    if (this.timer || (!this.live && !SETTLED.has(this.pending.stream))) return;
    const wait = Math.max(0, this.shownAt + FRAME_MS - performance.now());
    if (wait === 0) this.show();
    else this.timer = setTimeout(() => this.show(), wait);
  }

  private show(): void {
    this.timer = null;
    this.shownAt = performance.now();
    this.snapshot = this.pending;
    for (const listener of this.listeners) listener();
  }
}
