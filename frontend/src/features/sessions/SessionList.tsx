import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Plus } from 'lucide-react';
import { useState } from 'react';

import type { Session } from '@/api/records';
import { deleteSession, listSessions, renameSession } from '@/api/sessions';
import { ErrorNote } from '@/components/ErrorNote';

import { ConfirmDelete } from './ConfirmDelete';
import { SessionRow } from './SessionRow';

interface SessionListProps {
  current: string;
  /** The user chose a session, or a new one. */
  onChosen: () => void;
}

function useSessionActions(current: string) {
  const client = useQueryClient();
  const refresh = () => client.invalidateQueries({ queryKey: ['sessions'] });
  const rename = useMutation({
    mutationFn: ({ id, title }: { id: string; title: string }) => renameSession(id, title),
    onSettled: (_data, _error, { id }) => {
      void client.invalidateQueries({ queryKey: ['session', id] });
      return refresh();
    },
  });
  const remove = useMutation({
    mutationFn: deleteSession,
    onSuccess: (_data, id) => {
      if (id === current) location.hash = '#/';
    },
    onSettled: refresh,
  });
  return { rename, remove };
}

/** The sessions, newest first. */
export function SessionList({ current, onChosen }: SessionListProps) {
  const sessions = useQuery({ queryKey: ['sessions'], queryFn: listSessions });
  const { rename, remove } = useSessionActions(current);
  const [doomed, setDoomed] = useState<Session | null>(null);
  const error = sessions.error ?? rename.error ?? remove.error;
  return (
    <nav aria-label="Sessions" className="px-2.5 pb-4">
      <a
        href="#/"
        onClick={onChosen}
        className="mb-3 flex h-10 items-center gap-2 rounded-full border border-line bg-card px-3.5 text-sm font-medium hover:bg-sunk"
      >
        <Plus size={16} aria-hidden="true" /> New session
      </a>
      {error && <ErrorNote error={error} />}
      <ul className="space-y-0.5">
        {sessions.data?.map((session) => (
          <SessionRow
            key={session.session_id}
            session={session}
            current={session.session_id === current}
            onOpen={onChosen}
            onRename={(title) => rename.mutate({ id: session.session_id, title })}
            onDelete={() => setDoomed(session)}
          />
        ))}
      </ul>
      <ConfirmDelete
        session={doomed}
        onCancel={() => setDoomed(null)}
        onConfirm={({ session_id }) => (setDoomed(null), remove.mutate(session_id))}
      />
    </nav>
  );
}
