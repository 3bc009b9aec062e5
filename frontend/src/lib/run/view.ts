/** What the page shows of a run: the sum of its events. */

import type {
  FileRef,
  PhaseName,
  PlanStep,
  RichResult,
  RouteDecided,
  RunStateName,
  ToolStatus,
  Usage,
} from '@/api/events';

export interface PhaseItem {
  kind: 'phase';
  id: string;
  phase: PhaseName;
  title: string;
}
export interface MessageItem {
  kind: 'message';
  id: string;
  phase: string;
  text: string;
  done: boolean;
}
export interface OutputChunk {
  stream: 'stdout' | 'stderr' | 'result';
  text: string;
  result: RichResult | null;
}
export interface ToolItem {
  kind: 'tool';
  id: string;
  name: string;
  args: Record<string, unknown>;
  output: OutputChunk[];
  status: ToolStatus | 'running';
  result: string;
  seconds: number | null;
  startedAt: string;
}
export interface NoticeItem {
  kind: 'notice';
  id: string;
  level: 'info' | 'warning';
  text: string;
}
export interface SandboxItem {
  kind: 'sandbox';
  id: string;
  change: 'created' | 'reused' | 'resumed' | 'restored' | 'lost';
  provider: string;
  seconds: number | null;
  reason: string;
}
export interface RetryItem {
  kind: 'retry';
  id: string;
  attempt: number;
  waitSeconds: number;
  reason: string;
}
export interface ResumedItem {
  kind: 'resumed';
  id: string;
  reason: string;
}
export interface ArtifactItem {
  kind: 'artifact';
  id: string;
  file: FileRef;
  title: string;
}

export type Item =
  | PhaseItem
  | MessageItem
  | ToolItem
  | NoticeItem
  | SandboxItem
  | RetryItem
  | ResumedItem
  | ArtifactItem;

/** How a run ended. */
export interface End {
  state: Extract<RunStateName, 'finished' | 'failed' | 'cancelled' | 'budget_spent'>;
  answer: string;
  error: string;
  remedy: string;
  ts: string;
}

export interface RunView {
  lastSeq: number;
  goal: string;
  inputs: string[];
  model: string;
  playbook: boolean;
  startedAt: string;
  route: Pick<RouteDecided, 'target' | 'reason' | 'by'> | null;
  plan: PlanStep[];
  items: Item[];
  files: FileRef[];
  usage: Usage | null;
  end: End | null;
}

export const EMPTY_VIEW: RunView = {
  lastSeq: 0,
  goal: '',
  inputs: [],
  model: '',
  playbook: false,
  startedAt: '',
  route: null,
  plan: [],
  items: [],
  files: [],
  usage: null,
  end: null,
};

const ANSWER_PHASES = new Set(['', 'summarize']);

function isAnswer(item: Item): item is MessageItem {
  return item.kind === 'message' && ANSWER_PHASES.has(item.phase);
}

/** Whether the run is a task; a plain answer has no plan, no phases and no tools to show. */
export function isTask(view: RunView): boolean {
  return view.plan.length > 0 || view.items.some((item) => item.kind === 'phase' || item.kind === 'tool');
}

/** A tick of the plan shows in the plan itself. */
function isTick(item: Item): boolean {
  return item.kind === 'tool' && item.name === 'update_plan' && item.status !== 'error';
}

/** What happened on the way, without the answer. */
export function activityOf(view: RunView): Item[] {
  return view.items.filter((item) => !isAnswer(item) && !isTick(item));
}

/** The answer as far as it is there; once the run has ended, the one it ended with. */
export function answerOf(view: RunView): string {
  if (view.end?.answer) return view.end.answer;
  return view.items
    .filter(isAnswer)
    .map((item) => item.text)
    .join('\n\n');
}

/** Seconds from its start to its end, if it has both. */
export function durationOf(view: RunView): number | null {
  if (!view.end || !view.startedAt) return null;
  return (Date.parse(view.end.ts) - Date.parse(view.startedAt)) / 1000;
}
