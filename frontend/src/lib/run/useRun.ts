import { useEffect, useState, useSyncExternalStore } from 'react';

import { RunStore, type RunSnapshot } from './store';

/** Follows a run while the component lives. Whether it had `ended` counts once: a run that ends is not begun anew. */
export function useRun(runId: string, ended: boolean): RunSnapshot {
  const [store] = useState(() => new RunStore(runId, !ended));
  useEffect(() => {
    const stop = new AbortController();
    void store.follow(stop.signal);
    return () => stop.abort();
  }, [store]);
  return useSyncExternalStore(store.subscribe, store.get);
}
