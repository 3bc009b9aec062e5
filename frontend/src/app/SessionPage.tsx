import { ArrowDown } from 'lucide-react';
import { useEffect, useMemo, useState } from 'react';

import type { ChatRequest } from '@/api/chat';
import { ErrorNote } from '@/components/ErrorNote';
import { SessionFilesProvider } from '@/components/session';
import { Composer } from '@/features/composer/Composer';
import { DropZone } from '@/features/composer/DropZone';
import { useAfterUploads, useUploads } from '@/features/composer/uploads';
import { WAYS } from '@/features/composer/ways';
import { FilePreview } from '@/features/files/FilePreview';
import { FilesDrawer } from '@/features/files/FilesDrawer';
import { SandboxPanel } from '@/features/sandbox/SandboxPanel';

import { EmptyState } from './EmptyState';
import { RunArticle } from './RunArticle';
import { TopBar } from './TopBar';
import { useConversation } from './useConversation';
import { StuckContext, useStickToBottom } from './useStickToBottom';

interface SessionPageProps {
  session: string;
  onMenu: () => void;
  onPlaybook: () => void;
}

/** A conversation: its runs, and where the next goal is written. */
export function SessionPage({ session, onMenu, onPlaybook }: SessionPageProps) {
  const talk = useConversation(session);
  const { runs, running, send, stop, detail } = talk;
  const uploads = useUploads(session, talk.ensureSession);
  const [text, setText] = useState('');
  const [way, setWay] = useState(WAYS[0]);
  const [preview, setPreview] = useState('');
  const [filesOpen, setFilesOpen] = useState(false);
  const [sandboxOpen, setSandboxOpen] = useState(false);
  const stick = useStickToBottom(running !== undefined);
  const files = useMemo(() => ({ session, open: setPreview }), [session]);
  const stopping = running !== undefined && stop.variables === running.run_id && !stop.isError;
  const title = session ? (detail.data?.title ?? '') : '';
  useDocumentTitle(title, running !== undefined);
  useScrollToLastRun(session, runs.at(-1)?.run_id ?? '');

  const example = (goal: string) => {
    setText(goal);
    document.querySelector<HTMLTextAreaElement>('textarea')?.focus();
  };
  const submit = () => {
    const body: ChatRequest = { message: text.trim(), ...way.request };
    if (session) body.session_id = session;
    const paths = uploads.list.filter((upload) => upload.state === 'done').map((upload) => upload.path);
    if (paths.length) body.files = paths;
    stop.reset();
    send.mutate(body, {
      onSuccess: () => {
        setText('');
        uploads.clear();
        stick.toBottom();
      },
    });
  };

  const afterUploads = useAfterUploads(uploads, submit);
  const sending = send.isPending || afterUploads.waiting;
  const error = detail.error ?? send.error ?? stop.error;
  const state = running ? (stopping ? 'stopping' : 'running') : sending ? 'sending' : 'idle';
  return (
    <SessionFilesProvider value={files}>
      <DropZone className="flex min-w-0 flex-1 flex-col" onFiles={(dropped) => void uploads.add(dropped)}>
        <TopBar
          title={title}
          hasSession={session !== ''}
          onMenu={onMenu}
          onFiles={() => setFilesOpen(true)}
          onSandbox={() => setSandboxOpen(true)}
        />
        <div className="relative min-h-0 flex-1">
          <main ref={stick.box} className="h-full overflow-y-auto" aria-label="Conversation" data-testid="conversation">
            {runs.length === 0 && !detail.isLoading && !detail.error && <EmptyState onExample={example} />}
            <div ref={stick.content} className="mx-auto max-w-3xl space-y-14 px-5 pt-2 pb-10 empty:hidden">
              <StuckContext value={stick.stuck}>
                {runs.map((run) => (
                  <RunArticle
                    key={run.run_id}
                    run={run}
                    stopping={stopping && run === running}
                    reportOwner={talk.reportOwner(run)}
                    onPlaybook={onPlaybook}
                    onEnd={talk.onEnd}
                  />
                ))}
              </StuckContext>
            </div>
          </main>
          {running && !stick.atBottom && (
            <button
              type="button"
              onClick={stick.toBottom}
              className="fade-in absolute bottom-3 left-1/2 inline-flex h-9 -translate-x-1/2 items-center gap-2 rounded-full border border-line bg-card px-4 text-sm shadow-md"
            >
              <ArrowDown size={15} aria-hidden="true" /> Latest
            </button>
          )}
        </div>
        <footer className="mx-auto w-full max-w-3xl flex-none space-y-2 px-3 pt-1 pb-4 sm:px-5">
          {error && <ErrorNote error={error} />}
          <Composer
            text={text}
            onText={setText}
            way={way}
            onWay={setWay}
            uploads={uploads}
            state={state}
            onSend={afterUploads.wait}
            onStop={() => running && stop.mutate(running.run_id)}
          />
        </footer>
        <SandboxPanel open={sandboxOpen} onOpenChange={setSandboxOpen} />
        <FilesDrawer open={filesOpen} onOpenChange={setFilesOpen} />
        <FilePreview path={preview} onClose={() => setPreview('')} />
      </DropZone>
    </SessionFilesProvider>
  );
}

/** Opening a session shows its last goal; what is sent from here scrolls by itself. */
function useScrollToLastRun(session: string, lastRun: string): void {
  const [shown, setShown] = useState('');
  useEffect(() => {
    if (!lastRun || shown === session) return;
    setShown(session);
    document.querySelector(`[data-run="${CSS.escape(lastRun)}"]`)?.scrollIntoView({ block: 'start' });
  }, [session, lastRun, shown]);
}

/** The tab says whether its run is still under way. */
function useDocumentTitle(title: string, running: boolean): void {
  useEffect(() => {
    document.title = `${running ? '● ' : ''}${title || 'Orchestrion'}`;
  }, [title, running]);
}
