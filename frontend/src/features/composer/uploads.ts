import { useQueryClient } from '@tanstack/react-query';
import { useEffect, useRef, useState } from 'react';

import { ApiError } from '@/api/client';
import { uploadFile } from '@/api/files';

export interface Upload {
  id: number;
  name: string;
  size: number;
  session: string;
  part: number;
  state: 'sending' | 'done' | 'failed';
  path: string;
  error: ApiError | null;
}

export interface Uploads {
  /** Those of this session. */
  list: Upload[];
  /** Whether any is on its way, also one whose session the page has not come to yet. */
  busy: boolean;
  add: (files: Iterable<File>) => Promise<void>;
  remove: (id: number) => void;
  /** Forget those that are done: they went with the goal. */
  clear: () => void;
}

function asApiError(error: unknown): ApiError {
  return error instanceof ApiError ? error : new ApiError(0, 'The upload failed.', String(error));
}

let lastId = 0;

/** Calls `then` once nothing is on its way any more; a file that failed takes the wish back, to be looked at first. */
export function useAfterUploads(uploads: Uploads, then: () => void): { waiting: boolean; wait: () => void } {
  const [waiting, setWaiting] = useState(false);
  const { busy } = uploads;
  useEffect(() => {
    if (!waiting || busy) return;
    setWaiting(false);
    if (!uploads.list.some((upload) => upload.state === 'failed')) then();
  }, [waiting, busy]);
  return { waiting, wait: () => setWaiting(true) };
}

/** Files on their way into a session; `ensureSession` makes one where there is none yet. */
export function useUploads(session: string, ensureSession: () => Promise<string>): Uploads {
  const [all, setAll] = useState<Upload[]>([]);
  const stops = useRef(new Map<number, AbortController>());
  const client = useQueryClient();

  const change = (id: number, part: Partial<Upload>) =>
    setAll((list) => list.map((item) => (item.id === id ? { ...item, ...part } : item)));

  const send = async (id: number, file: File, target: string) => {
    const stop = new AbortController();
    stops.current.set(id, stop);
    try {
      const [stored] = await uploadFile(target, file, (part) => change(id, { part }), stop.signal);
      change(id, { state: 'done', part: 1, path: stored?.path ?? '' });
      void client.invalidateQueries({ queryKey: ['files', target] });
    } catch (error) {
      if (!stop.signal.aborted) change(id, { state: 'failed', error: asApiError(error) });
    }
  };

  const add = async (files: Iterable<File>) => {
    const fresh = [...files].map((file) => ({ id: ++lastId, file }));
    setAll((list) => [
      ...list,
      ...fresh.map(({ id, file }) => ({
        id,
        name: file.name,
        size: file.size,
        session,
        part: 0,
        state: 'sending' as const,
        path: '',
        error: null,
      })),
    ]);
    try {
      const target = await ensureSession();
      for (const { id } of fresh) change(id, { session: target });
      for (const { id, file } of fresh) await send(id, file, target);
    } catch (error) {
      for (const { id } of fresh) change(id, { state: 'failed', error: asApiError(error) });
    }
  };

  const remove = (id: number) => {
    stops.current.get(id)?.abort();
    setAll((list) => list.filter((item) => item.id !== id));
  };

  const list = all.filter((item) => item.session === session);
  const busy = all.some((item) => item.state === 'sending');
  return { list, busy, add, remove, clear: () => setAll((items) => items.filter((item) => item.state === 'sending')) };
}
