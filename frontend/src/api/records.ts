/** What the server keeps about sessions and runs (`store/models.py`). */

import type { AgentName, FileRef, RunStateName, Usage } from './events';

export type Mode = 'auto' | 'chat' | 'agent';

export interface Session {
  session_id: string;
  title: string;
  owner: string;
  created_at: string;
  updated_at: string;
}

export interface RunRequest {
  goal: string;
  session_id: string | null;
  mode: Mode;
  agent: AgentName | null;
  files: string[];
}

export interface Run {
  run_id: string;
  session_id: string;
  state: RunStateName;
  request: RunRequest;
  target: AgentName | null;
  answer: string;
  error: string;
  usage: Usage;
  created_at: string;
  started_at: string | null;
  ended_at: string | null;
}

export interface SessionDetail extends Session {
  runs: Run[];
}

export interface HealthCheck {
  name: string;
  status: string;
  detail: string;
  remedy: string;
}

export interface Readiness {
  status: 'ready' | 'degraded' | 'unavailable';
  checks: HealthCheck[];
}

export type { FileRef };

const ENDED = new Set<RunStateName>(['finished', 'failed', 'cancelled', 'budget_spent']);

/** Whether the run is in a terminal state. */
export function hasEnded(run: Run): boolean {
  return ENDED.has(run.state);
}
