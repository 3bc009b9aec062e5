import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect, useState, useSyncExternalStore } from 'react';

import { getReadiness } from '@/api/health';
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
  const readiness = useQuery({ queryKey: ['readiness'], queryFn: getReadiness, staleTime: 60_000 });
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

/** The page, or the form for the key where the server wants one. */
export function App() {
  const wanted = useSyncExternalStore(onKeyChange, keyIsWanted);
  const key = useSyncExternalStore(onKeyChange, currentKey);
  const client = useQueryClient();
  useEffect(() => {
    void client.resetQueries();
  }, [client, key]);
  return wanted ? <KeyForm /> : <Shell key={key} />;
}
