import { useSyncExternalStore } from 'react';

function subscribe(listener: () => void): () => void {
  addEventListener('hashchange', listener);
  return () => removeEventListener('hashchange', listener);
}

/** The session that the address names (`#/s/<session_id>`), or an empty string. */
export function useSessionId(): string {
  const hash = useSyncExternalStore(subscribe, () => location.hash);
  const id = /^#\/s\/([^/?]+)/.exec(hash)?.[1] ?? '';
  return decodeURIComponent(id);
}

export function goToSession(id: string): void {
  location.hash = `#/s/${encodeURIComponent(id)}`;
}
