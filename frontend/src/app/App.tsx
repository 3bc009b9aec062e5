import { QueryClient, QueryClientProvider, useQuery } from '@tanstack/react-query';
import { useMemo, useState, useSyncExternalStore } from 'react';

import { ApiError } from '@/api/client';
import { getReadiness, lastReadiness } from '@/api/health';
import { currentKey, keyIsWanted, onKeyChange } from '@/api/key';
import { Drawer } from '@/components/Drawer';
import { Logo } from '@/components/Logo';
import { HealthBanner, isPlaybook } from '@/features/health/HealthBanner';
import { KeyForm } from '@/features/health/KeyForm';
import { SessionList } from '@/features/sessions/SessionList';

import { SessionPage } from './SessionPage';
import { useSessionId } from './useRoute';

function Sidebar({ current }: { current: string }) {
  return (
    <aside className="hidden w-66 flex-none flex-col border-r border-line md:flex">
      <a href="#/" className="flex h-14 flex-none items-center gap-2.5 px-5 font-serif text-[1.2rem] font-medium">
        <Logo className="size-5" /> Orchestrion
      </a>
      <div className="min-h-0 flex-1 overflow-y-auto pt-1">
        <SessionList current={current} onChosen={() => undefined} />
      </div>
    </aside>
  );
}

function Shell() {
  const session = useSessionId();
  const [menu, setMenu] = useState(false);
  const [runPlaybook, setRunPlaybook] = useState(false);
  const readiness = useQuery({
    queryKey: ['readiness'],
    queryFn: getReadiness,
    initialData: lastReadiness,
    initialDataUpdatedAt: 0,
    staleTime: 60_000,
  });
  return (
    <div className="flex h-full flex-col">
      <HealthBanner readiness={readiness.data} playbook={runPlaybook || isPlaybook(readiness.data)} />
      <div className="flex min-h-0 flex-1">
        <Sidebar current={session} />
        <SessionPage session={session} onMenu={() => setMenu(true)} onPlaybook={() => setRunPlaybook(true)} />
        <Drawer open={menu} onOpenChange={setMenu} side="left" title="Orchestrion">
          <SessionList current={session} onChosen={() => setMenu(false)} />
        </Drawer>
      </div>
    </div>
  );
}

/** What the server refuses once, it refuses again; only its silence is worth another try. */
function retry(count: number, error: Error): boolean {
  return count < 2 && (!(error instanceof ApiError) || error.status === 0 || error.status >= 500);
}

/** The page, or the form for the key where the server wants one; nothing fetched with one key is shown under another. */
export function App() {
  const wanted = useSyncExternalStore(onKeyChange, keyIsWanted);
  const key = useSyncExternalStore(onKeyChange, currentKey);
  const client = useMemo(() => new QueryClient({ defaultOptions: { queries: { retry, staleTime: 5_000 } } }), [key]);
  if (wanted) return <KeyForm />;
  return (
    <QueryClientProvider client={client}>
      <Shell key={key} />
    </QueryClientProvider>
  );
}
