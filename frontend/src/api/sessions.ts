import { getJson, sendJson } from './client';
import type { Session, SessionDetail } from './records';

const one = (id: string): string => `api/sessions/${encodeURIComponent(id)}`;

export async function listSessions(): Promise<Session[]> {
  const { sessions } = await getJson<{ sessions: Session[] }>('api/sessions');
  return sessions.toSorted((a, b) => b.updated_at.localeCompare(a.updated_at));
}

export function getSession(id: string): Promise<SessionDetail> {
  return getJson(one(id));
}

export function createSession(title: string): Promise<Session> {
  return sendJson('POST', 'api/sessions', { title });
}

export function renameSession(id: string, title: string): Promise<Session> {
  return sendJson('PATCH', one(id), { title });
}

export function deleteSession(id: string): Promise<void> {
  return sendJson('DELETE', one(id));
}
