import type { ChatRequest } from '@/api/chat';

export interface Way {
  id: string;
  name: string;
  says: string;
  request: Pick<ChatRequest, 'mode' | 'agent'>;
}

/** How a goal may be gone about. */
export const WAYS: [Way, ...Way[]] = [
  { id: 'auto', name: 'Auto', says: 'Small things at once, big things planned', request: {} },
  { id: 'chat', name: 'Answer only', says: 'One answer, no tools', request: { mode: 'chat' } },
  { id: 'agent', name: 'Work on it', says: 'Plan it and carry it out', request: { mode: 'agent' } },
  { id: 'data', name: 'Data agent', says: 'Tables: profile, statistics, charts', request: { agent: 'data' } },
  { id: 'research', name: 'Research agent', says: 'Documents and addresses, cited', request: { agent: 'research' } },
];
