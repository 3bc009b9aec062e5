import * as Tabs from '@radix-ui/react-tabs';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Pause, Play } from 'lucide-react';
import { lazy, Suspense } from 'react';

import { getMetrics, makeSandbox, pauseSandbox, resumeSandbox, sessionSandbox, type Sandbox } from '@/api/sandboxes';
import { Button } from '@/components/Button';
import { Drawer } from '@/components/Drawer';
import { ErrorNote } from '@/components/ErrorNote';
import { useSessionFiles } from '@/components/session';
import { formatSize } from '@/lib/format';

import { Processes } from './Processes';
import { SandboxFiles } from './SandboxFiles';

// The terminal is the heaviest part of the page, and most never open it.
const Terminal = lazy(async () => ({ default: (await import('./Terminal')).Terminal }));

const HOME = '/workspace';
const TABS = ['Terminal', 'Files', 'Processes'] as const;

function Usage({ sandbox }: { sandbox: Sandbox }) {
  const { data } = useQuery({
    queryKey: ['sandbox-metrics', sandbox.id],
    queryFn: () => getMetrics(sandbox.id),
    refetchInterval: 5000,
    enabled: sandbox.state === 'running',
  });
  if (!data || sandbox.state !== 'running') return null;
  return (
    <span className="tabular-nums">
      {' '}
      · {Math.round(data.cpu_percent)} % CPU · {formatSize(data.memory_used)} of {formatSize(data.memory_total)}
    </span>
  );
}

function Head({ sandbox, onChange }: { sandbox: Sandbox; onChange: () => void }) {
  const running = sandbox.state === 'running';
  const change = useMutation({
    mutationFn: () => (running ? pauseSandbox(sandbox.id) : resumeSandbox(sandbox.id)),
    onSettled: onChange,
  });
  return (
    <div className="flex-none space-y-2 px-5 pb-3">
      <div className="flex min-h-9 items-center gap-3">
        <p className="min-w-0 flex-1 text-sm text-soft">
          <span className={`mr-2 inline-block size-2 rounded-full ${running ? 'bg-ok' : 'bg-brass-fill'}`} />
          {running ? 'Running' : 'Paused'} · {sandbox.provider}
          <Usage sandbox={sandbox} />
        </p>
        <Button disabled={change.isPending} onClick={() => change.mutate()}>
          {running ? <Pause size={14} aria-hidden="true" /> : <Play size={14} aria-hidden="true" />}
          {running ? 'Pause' : 'Resume'}
        </Button>
      </div>
      {change.error && <ErrorNote error={change.error} />}
    </div>
  );
}

function Inside({ sandbox }: { sandbox: Sandbox }) {
  if (sandbox.state === 'paused')
    return <p className="px-5 text-sm text-soft">It is paused: its files and processes wait. Resume it to look inside.</p>;
  return (
    <Tabs.Root defaultValue="Terminal" className="flex min-h-0 flex-1 flex-col">
      <Tabs.List className="flex flex-none gap-1 border-b border-line px-4" aria-label="Inside the sandbox">
        {TABS.map((name) => (
          <Tabs.Trigger
            key={name}
            value={name}
            className="-mb-px border-b-2 border-transparent px-3 py-2 text-sm text-soft data-[state=active]:border-accent data-[state=active]:text-ink"
          >
            {name}
          </Tabs.Trigger>
        ))}
      </Tabs.List>
      <Tabs.Content value="Terminal" className="min-h-0 flex-1 p-4">
        <Suspense fallback={<p className="text-sm text-soft">Opening a shell…</p>}>
          <Terminal sandbox={sandbox.id} />
        </Suspense>
      </Tabs.Content>
      <Tabs.Content value="Files" className="min-h-0 flex-1 overflow-y-auto p-5">
        <SandboxFiles sandbox={sandbox.id} home={HOME} />
      </Tabs.Content>
      <Tabs.Content value="Processes" className="min-h-0 flex-1 overflow-y-auto p-5">
        <Processes sandbox={sandbox.id} home={HOME} />
      </Tabs.Content>
    </Tabs.Root>
  );
}

function None({ onChange }: { onChange: () => void }) {
  const { session } = useSessionFiles();
  const make = useMutation({ mutationFn: () => makeSandbox(session), onSettled: onChange });
  return (
    <div className="space-y-3 px-5">
      <p className="text-sm text-soft">
        This session has no sandbox yet. The first step that needs one makes it; you can also make it now and look around.
      </p>
      {make.error && <ErrorNote error={make.error} />}
      <Button look="primary" disabled={make.isPending} onClick={() => make.mutate()}>
        {make.isPending ? 'Making it…' : 'Make a sandbox'}
      </Button>
    </div>
  );
}

interface SandboxPanelProps {
  open: boolean;
  onOpenChange: (open: boolean) => void;
}

/** The session's isolated computer: a terminal, its files, its processes. */
export function SandboxPanel({ open, onOpenChange }: SandboxPanelProps) {
  const { session } = useSessionFiles();
  const client = useQueryClient();
  const key = ['sandbox', session];
  const sandbox = useQuery({ queryKey: key, queryFn: () => sessionSandbox(session), enabled: open, refetchInterval: 5000 });
  const refresh = () => void client.invalidateQueries({ queryKey: key });
  return (
    <Drawer open={open} onOpenChange={onOpenChange} side="right" title="Sandbox" wide>
      <div className="flex h-full flex-col">
        {sandbox.error && (
          <div className="px-5">
            <ErrorNote error={sandbox.error} />
          </div>
        )}
        {sandbox.data === null && <None onChange={refresh} />}
        {sandbox.data && (
          <>
            <Head sandbox={sandbox.data} onChange={refresh} />
            <Inside key={sandbox.data.id} sandbox={sandbox.data} />
          </>
        )}
      </div>
    </Drawer>
  );
}
