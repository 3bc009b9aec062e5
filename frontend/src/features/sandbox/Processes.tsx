import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { CircleStop, ExternalLink, Play, ScrollText } from 'lucide-react';
import { useEffect, useRef, useState } from 'react';

import { linksWork } from '@/api/files';
import {
  followLog,
  killProcess,
  listProcesses,
  portUrl,
  startProcess,
  type LogLine,
  type ProcessInfo,
} from '@/api/sandboxes';
import { Button, IconButton } from '@/components/Button';
import { ErrorNote } from '@/components/ErrorNote';

const LONGEST = 200_000;

function shown({ kind, data }: LogLine): string {
  if (kind === 'note') return `\n[${data}]\n`;
  if (kind === 'end') return `\n[ended with exit code ${data}]\n`;
  const bytes = Uint8Array.from(atob(String(data)), (letter) => letter.charCodeAt(0));
  return new TextDecoder().decode(bytes);
}

/** What a process prints, while it prints it. */
function Log({ sandbox, pid }: { sandbox: string; pid: number }) {
  const [text, setText] = useState('');
  const [error, setError] = useState<Error | null>(null);
  const box = useRef<HTMLPreElement>(null);
  useEffect(() => {
    const stop = new AbortController();
    setText('');
    followLog(sandbox, pid, (line) => setText((before) => (before + shown(line)).slice(-LONGEST)), stop.signal).catch(
      (reason: unknown) => !stop.signal.aborted && setError(reason as Error),
    );
    return () => stop.abort();
  }, [sandbox, pid]);
  useEffect(() => {
    box.current?.scrollTo({ top: box.current.scrollHeight });
  }, [text]);
  if (error) return <ErrorNote error={error} />;
  return (
    <pre
      ref={box}
      tabIndex={0}
      aria-label={`Log of process ${pid}`}
      className="max-h-80 min-h-16 overflow-auto rounded-lg bg-sunk p-3 font-mono text-xs whitespace-pre-wrap"
    >
      {text || 'Nothing printed yet.'}
    </pre>
  );
}

/** The way to a service inside; it opens in a tab of its own, with an origin of its own. */
function PortLink({ sandbox }: { sandbox: string }) {
  const [port, setPort] = useState('8000');
  const good = /^[1-9]\d{0,4}$/.test(port) && Number(port) < 65536;
  return (
    <form
      className="flex items-center gap-2 text-sm text-soft"
      onSubmit={(event) => {
        event.preventDefault();
        if (good) window.open(portUrl(sandbox, Number(port)), '_blank', 'noopener');
      }}
    >
      <label htmlFor="sandbox-port">Service on port</label>
      <input
        id="sandbox-port"
        value={port}
        inputMode="numeric"
        onChange={({ target }) => setPort(target.value.trim())}
        className="h-9 w-20 rounded-full border border-line bg-card px-3 text-ink tabular-nums"
      />
      <Button type="submit" disabled={!good}>
        <ExternalLink size={14} aria-hidden="true" /> Open
      </Button>
    </form>
  );
}

function words({ command, args }: ProcessInfo): string {
  return args.length && args[0]?.startsWith('-') ? args.slice(1).join(' ') || command : [command, ...args].join(' ');
}

/** What runs inside: start, watch, stop. */
export function Processes({ sandbox, home }: { sandbox: string; home: string }) {
  const [command, setCommand] = useState('');
  const [watched, setWatched] = useState<number | null>(null);
  const client = useQueryClient();
  const key = ['sandbox-processes', sandbox];
  const processes = useQuery({ queryKey: key, queryFn: () => listProcesses(sandbox), refetchInterval: 3000 });
  const refresh = () => client.invalidateQueries({ queryKey: key });
  const start = useMutation({
    mutationFn: () => startProcess(sandbox, command, home),
    onSuccess: ({ pid }) => {
      setCommand('');
      setWatched(pid);
      void refresh();
    },
  });
  const kill = useMutation({ mutationFn: (pid: number) => killProcess(sandbox, pid), onSettled: refresh });
  const error = processes.error ?? start.error ?? kill.error;
  return (
    <div className="space-y-4">
      <form
        className="flex gap-2"
        onSubmit={(event) => {
          event.preventDefault();
          if (command.trim()) start.mutate();
        }}
      >
        <input
          value={command}
          onChange={({ target }) => setCommand(target.value)}
          aria-label="Command to start"
          placeholder="python3 -m http.server 8000"
          className="h-9 min-w-0 flex-1 rounded-full border border-line bg-card px-4 font-mono text-sm"
        />
        <Button type="submit" look="primary" disabled={!command.trim() || start.isPending}>
          <Play size={14} aria-hidden="true" /> Start
        </Button>
      </form>
      {error && <ErrorNote error={error} />}
      {processes.data?.length === 0 && <p className="text-sm text-soft">Nothing runs at the moment.</p>}
      <ul>
        {processes.data?.map((process) => (
          <li key={process.pid} className="flex items-center gap-3 border-b border-line py-0.5 last:border-0">
            <span className="w-12 flex-none text-right text-xs text-soft tabular-nums">{process.pid}</span>
            <code className="min-w-0 flex-1 truncate text-sm">{words(process)}</code>
            <IconButton label={`Log of process ${process.pid}`} onClick={() => setWatched(process.pid)}>
              <ScrollText size={15} />
            </IconButton>
            <IconButton label={`Stop process ${process.pid}`} onClick={() => kill.mutate(process.pid)}>
              <CircleStop size={15} />
            </IconButton>
          </li>
        ))}
      </ul>
      {watched !== null && <Log sandbox={sandbox} pid={watched} />}
      {linksWork() && <PortLink sandbox={sandbox} />}
    </div>
  );
}
