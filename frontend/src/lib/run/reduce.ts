/** Folds events into a run's view. Pure: the same events give the same view, live or replayed. */

import type { FileRef, RunEvent } from '@/api/events';

import type { End, Item, MessageItem, OutputChunk, RunView, ToolItem } from './view';

type EventOf<T extends RunEvent['type']> = Extract<RunEvent, { type: T }>;
type Handlers = { [T in RunEvent['type']]: (view: RunView, event: EventOf<T>) => void };
type Ending = EventOf<'run.finished' | 'run.failed' | 'run.cancelled' | 'run.budget_spent'>;

const BUDGET_UNITS: Record<string, string> = {
  steps: 'model calls',
  tokens: 'tokens',
  usd: 'US dollars',
  seconds: 'seconds',
};

/** Replaces the last item that `match` accepts; false if there is none. */
function replace<I extends Item>(view: RunView, match: (item: Item) => item is I, by: (item: I) => I): boolean {
  const index = view.items.findLastIndex(match);
  const found = view.items[index];
  if (!found || !match(found)) return false;
  view.items[index] = by(found);
  return true;
}

const messageWith =
  (id: string) =>
  (item: Item): item is MessageItem =>
    item.kind === 'message' && item.id === id;
const toolWith =
  (id: string) =>
  (item: Item): item is ToolItem =>
    item.kind === 'tool' && item.id === id;

function addDelta(view: RunView, { message_id: id, text, phase }: EventOf<'message.delta'>): void {
  if (replace(view, messageWith(id), (item) => ({ ...item, text: item.text + text }))) return;
  view.items.push({ kind: 'message', id, phase, text, done: false });
}

function completeMessage(view: RunView, event: EventOf<'message.completed'>): void {
  const { message_id: id, text, phase } = event;
  const whole: MessageItem = { kind: 'message', id, phase, text, done: true };
  if (!replace(view, messageWith(id), () => whole) && text) view.items.push(whole);
}

function startTool(view: RunView, event: EventOf<'tool.started'>): void {
  const item: ToolItem = {
    kind: 'tool',
    id: event.call_id,
    name: event.name,
    args: event.args,
    output: [],
    status: 'running',
    result: '',
    seconds: null,
    startedAt: event.ts,
  };
  // A read-only call that was cut off runs again under its own id.
  if (!replace(view, toolWith(event.call_id), () => item)) view.items.push(item);
}

/** Neighbouring text of one stream is one chunk. */
function withOutput(output: OutputChunk[], { stream, text, result }: OutputChunk): OutputChunk[] {
  const last = output.at(-1);
  if (!last || last.stream !== stream || last.result || result) return [...output, { stream, text, result }];
  return [...output.slice(0, -1), { stream, text: last.text + text, result: null }];
}

function addFiles(view: RunView, files: FileRef[]): void {
  const known = new Map(view.files.map((file) => [file.path, file]));
  for (const file of files) known.set(file.path, file);
  view.files = [...known.values()];
}

function end(view: RunView, event: Ending, rest: Pick<End, 'state' | 'error' | 'remedy'>): void {
  view.end = { ...rest, answer: event.answer, ts: event.ts };
  addFiles(view, event.files);
  // Nothing is under way any more.
  const step = rest.state === 'failed' ? 'failed' : 'pending';
  view.plan = view.plan.map((one) => (one.status === 'active' ? { ...one, status: step } : one));
  const left = rest.state === 'cancelled' ? 'cancelled' : 'unknown';
  view.items = view.items.map((item) =>
    item.kind === 'tool' && item.status === 'running' ? { ...item, status: left } : item,
  );
}

function budgetSentence({ kind, limit }: EventOf<'run.budget_spent'>): string {
  return `The budget of ${limit.toLocaleString('en')} ${BUDGET_UNITS[kind] ?? kind} is spent; what was done so far is kept.`;
}

const handlers: Handlers = {
  'run.created': (view, event) => {
    view.goal = event.goal;
    view.inputs = event.files;
  },
  'run.started': (view, event) => {
    view.model = event.model;
    view.playbook = event.playbook;
    view.startedAt ||= event.ts;
  },
  'run.resumed': (view, event) => {
    view.items = view.items.filter((item) => item.kind !== 'message' || item.done);
    view.items.push({ kind: 'resumed', id: `e${event.seq}`, reason: event.reason });
    view.end = null;
  },
  'run.phase': (view, event) => {
    view.items.push({ kind: 'phase', id: `e${event.seq}`, phase: event.phase, title: event.title });
  },
  'run.notice': (view, event) => {
    view.items.push({ kind: 'notice', id: `e${event.seq}`, level: event.level, text: event.text });
  },
  'run.finished': (view, event) => end(view, event, { state: 'finished', error: '', remedy: '' }),
  'run.failed': (view, event) =>
    end(view, event, { state: 'failed', error: event.error, remedy: event.remedy }),
  'run.cancelled': (view, event) => end(view, event, { state: 'cancelled', error: '', remedy: '' }),
  'run.budget_spent': (view, event) =>
    end(view, event, {
      state: 'budget_spent',
      error: budgetSentence(event),
      remedy: 'Ask for less at a time, or raise the budget in the settings.',
    }),
  'route.decided': (view, { target, reason, by }) => {
    view.route = { target, reason, by };
  },
  'plan.updated': (view, event) => {
    view.plan = event.steps;
  },
  'message.delta': addDelta,
  'message.completed': completeMessage,
  'tool.started': startTool,
  'tool.output': (view, event) => {
    replace(view, toolWith(event.call_id), (item) => ({ ...item, output: withOutput(item.output, event) }));
  },
  'tool.finished': (view, { call_id: id, status, result, seconds }) => {
    replace(view, toolWith(id), (item) => ({ ...item, status, result, seconds }));
  },
  'artifact.written': (view, event) => {
    addFiles(view, [event.file]);
    view.items.push({ kind: 'artifact', id: `e${event.seq}`, file: event.file, title: event.title });
  },
  'sandbox.created': (view, { seq, provider, seconds, caveats }) => {
    view.items.push({ kind: 'sandbox', id: `e${seq}`, change: 'created', provider, seconds, reason: '' });
    if (caveats) view.items.push({ kind: 'notice', id: `e${seq}.caveats`, level: 'warning', text: caveats });
  },
  'sandbox.reused': (view, { seq, provider }) => {
    view.items.push({ kind: 'sandbox', id: `e${seq}`, change: 'reused', provider, seconds: null, reason: '' });
  },
  'sandbox.resumed': (view, { seq, provider, seconds }) => {
    view.items.push({ kind: 'sandbox', id: `e${seq}`, change: 'resumed', provider, seconds, reason: '' });
  },
  'sandbox.restored': (view, { seq, provider, seconds }) => {
    view.items.push({ kind: 'sandbox', id: `e${seq}`, change: 'restored', provider, seconds, reason: '' });
  },
  'sandbox.lost': (view, { seq, provider, reason }) => {
    view.items.push({ kind: 'sandbox', id: `e${seq}`, change: 'lost', provider, seconds: null, reason });
  },
  'sandbox.egress': (view, { seq, host, port, verdict, reason }) => {
    const text = `Code in the sandbox asked for ${host}:${port} and was refused: ${reason || 'no rule allows it'}`;
    if (verdict === 'denied') view.items.push({ kind: 'notice', id: `e${seq}`, level: 'warning', text });
  },
  'usage.recorded': (view, event) => {
    view.usage = event.total;
  },
  'llm.called': () => undefined,
  'model.retried': (view, event) => {
    view.items = view.items.filter((item) => item.kind !== 'message' || item.id !== event.message_id);
    view.items.push({
      kind: 'retry',
      id: `e${event.seq}`,
      attempt: event.attempt,
      waitSeconds: event.wait_seconds,
      reason: event.reason,
    });
  },
};

/** The view after these events; those already counted are passed over, unknown types are ignored. */
export function applyEvents(view: RunView, events: RunEvent[]): RunView {
  const next = { ...view, items: [...view.items] };
  for (const event of events) {
    if (event.seq <= next.lastSeq) continue;
    next.lastSeq = event.seq;
    const handle = handlers[event.type] as ((view: RunView, event: RunEvent) => void) | undefined;
    handle?.(next, event);
  }
  return next;
}
