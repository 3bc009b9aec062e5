/** The events of a run, as the server's journal writes them (`core/events.py`). */

export type AgentName = 'chat' | 'research' | 'data' | 'computer';
export type RunStateName =
  | 'queued'
  | 'running'
  | 'waiting'
  | 'finished'
  | 'failed'
  | 'cancelled'
  | 'budget_spent';

export interface FileRef {
  path: string;
  size: number;
  media_type: string;
}

export interface PlanStep {
  text: string;
  status: 'pending' | 'active' | 'done' | 'failed' | 'skipped';
}

export interface Usage {
  input_tokens: number;
  output_tokens: number;
  cache_read_tokens: number;
  usd: number | null;
}

export interface RichResult {
  kind: 'text' | 'markdown' | 'latex' | 'html' | 'json' | 'chart' | 'png' | 'jpeg' | 'svg' | 'pdf';
  data: string;
}

export type PhaseName = 'plan' | 'execute' | 'report' | 'summarize';
export type ToolStatus = 'ok' | 'error' | 'unknown' | 'cancelled';

interface Base {
  run_id: string;
  seq: number;
  ts: string;
  agent: 'orchestrator' | 'system' | AgentName;
}

interface Event<T extends string> extends Base {
  type: T;
}

export interface RunCreated extends Event<'run.created'> {
  session_id: string;
  goal: string;
  files: string[];
}
export interface RunStarted extends Event<'run.started'> {
  worker: string;
  model: string;
  playbook: boolean;
}
export interface RunResumed extends Event<'run.resumed'> {
  worker: string;
  reason: string;
}
export interface RunPhase extends Event<'run.phase'> {
  phase: PhaseName;
  title: string;
}
export interface RunNotice extends Event<'run.notice'> {
  level: 'info' | 'warning';
  code: string;
  text: string;
}
export interface RunFinished extends Event<'run.finished'> {
  answer: string;
  files: FileRef[];
}
export interface RunFailed extends Event<'run.failed'> {
  code: string;
  error: string;
  remedy: string;
  answer: string;
  files: FileRef[];
}
export interface RunCancelled extends Event<'run.cancelled'> {
  answer: string;
  files: FileRef[];
}
export interface RunBudgetSpent extends Event<'run.budget_spent'> {
  kind: string;
  limit: number;
  answer: string;
  files: FileRef[];
}
export interface RouteDecided extends Event<'route.decided'> {
  target: AgentName;
  reason: string;
  by: 'rule' | 'model' | 'user';
  skill: string | null;
}
export interface PlanUpdated extends Event<'plan.updated'> {
  steps: PlanStep[];
}
export interface MessageDelta extends Event<'message.delta'> {
  message_id: string;
  text: string;
  phase: string;
}
export interface MessageCompleted extends Event<'message.completed'> {
  message_id: string;
  text: string;
  phase: string;
}
export interface ToolStarted extends Event<'tool.started'> {
  call_id: string;
  name: string;
  args: Record<string, unknown>;
  read_only: boolean;
}
export interface ToolOutput extends Event<'tool.output'> {
  call_id: string;
  stream: 'stdout' | 'stderr' | 'result';
  text: string;
  result: RichResult | null;
}
export interface ToolFinished extends Event<'tool.finished'> {
  call_id: string;
  name: string;
  status: ToolStatus;
  result: string;
  seconds: number;
}
export interface ArtifactWritten extends Event<'artifact.written'> {
  file: FileRef;
  title: string;
}
export interface SandboxCreated extends Event<'sandbox.created'> {
  sandbox_id: string;
  provider: string;
  seconds: number;
  caveats?: string;
}
export interface SandboxReused extends Event<'sandbox.reused'> {
  sandbox_id: string;
  provider: string;
}
export interface SandboxResumed extends Event<'sandbox.resumed'> {
  sandbox_id: string;
  provider: string;
  seconds: number;
}
export interface SandboxRestored extends Event<'sandbox.restored'> {
  sandbox_id: string;
  provider: string;
  seconds: number;
}
export interface SandboxLost extends Event<'sandbox.lost'> {
  sandbox_id: string;
  provider: string;
  reason: string;
}
export interface SandboxEgress extends Event<'sandbox.egress'> {
  sandbox_id: string;
  host: string;
  port: number;
  verdict: 'allowed' | 'denied';
  rule: string;
  reason: string;
  requests: number;
  bytes_in: number;
  bytes_out: number;
}
export interface UsageRecorded extends Event<'usage.recorded'> {
  model: string;
  call: Usage;
  total: Usage;
}
export interface LlmCalled extends Event<'llm.called'> {
  model: string;
  role: string;
  seconds: number;
  first_token_seconds: number | null;
}
export interface ModelRetried extends Event<'model.retried'> {
  attempt: number;
  wait_seconds: number;
  reason: string;
  message_id: string | null;
}

export type RunEvent =
  | RunCreated
  | RunStarted
  | RunResumed
  | RunPhase
  | RunNotice
  | RunFinished
  | RunFailed
  | RunCancelled
  | RunBudgetSpent
  | RouteDecided
  | PlanUpdated
  | MessageDelta
  | MessageCompleted
  | ToolStarted
  | ToolOutput
  | ToolFinished
  | ArtifactWritten
  | SandboxCreated
  | SandboxReused
  | SandboxResumed
  | SandboxRestored
  | SandboxLost
  | SandboxEgress
  | UsageRecorded
  | LlmCalled
  | ModelRetried;

const TERMINAL = new Set<string>(['run.finished', 'run.failed', 'run.cancelled', 'run.budget_spent']);

/** Whether nothing follows this event. */
export function isTerminal(event: { type: string }): boolean {
  return TERMINAL.has(event.type);
}
