import { ArrowUp, LoaderCircle, Paperclip, Square } from 'lucide-react';
import { useRef } from 'react';

import { IconButton } from '@/components/Button';

import { UploadChips } from './UploadChips';
import type { Uploads } from './uploads';
import { WayMenu } from './WayMenu';
import type { Way } from './ways';

interface ComposerProps {
  text: string;
  onText: (text: string) => void;
  way: Way;
  onWay: (way: Way) => void;
  uploads: Uploads;
  /** idle: may send; sending: on its way, or waiting for its files; running: may stop; stopping: was asked to. */
  state: 'idle' | 'sending' | 'running' | 'stopping';
  onSend: () => void;
  onStop: () => void;
}

function FileButton({ onFiles }: { onFiles: (files: File[]) => void }) {
  const input = useRef<HTMLInputElement>(null);
  const take = (event: React.ChangeEvent<HTMLInputElement>) => {
    onFiles([...(event.target.files ?? [])]);
    event.target.value = '';
  };
  return (
    <>
      <input ref={input} type="file" multiple hidden aria-label="Files" data-testid="file-input" onChange={take} />
      <IconButton label="Add files" onClick={() => input.current?.click()}>
        <Paperclip size={17} />
      </IconButton>
    </>
  );
}

function MainButton({ state, ready, onSend, onStop }: Pick<ComposerProps, 'state' | 'onSend' | 'onStop'> & { ready: boolean }) {
  const shape = 'inline-flex h-9 items-center justify-center rounded-full text-sm font-medium disabled:opacity-40';
  if (state === 'running' || state === 'stopping')
    return (
      <button
        type="button"
        onClick={onStop}
        disabled={state === 'stopping'}
        className={`${shape} gap-2 border border-line bg-paper px-3.5 hover:bg-sunk disabled:opacity-70`}
      >
        <Square size={12} fill="currentColor" aria-hidden="true" /> {state === 'stopping' ? 'Stopping…' : 'Stop'}
      </button>
    );
  return (
    <button
      type="button"
      aria-label={state === 'sending' ? 'Sending' : 'Send'}
      title="Send (Enter)"
      onClick={onSend}
      disabled={!ready}
      className={`${shape} w-9 bg-accent text-on-accent`}
    >
      {state === 'sending' ? (
        <LoaderCircle size={17} className="animate-spin" aria-hidden="true" />
      ) : (
        <ArrowUp size={18} aria-hidden="true" />
      )}
    </button>
  );
}

/** Where a goal is written: Enter sends, Shift+Enter begins a line, files may be added, dropped or pasted. */
export function Composer({ text, onText, way, onWay, uploads, state, onSend, onStop }: ComposerProps) {
  const ready = state === 'idle' && text.trim() !== '';
  const onKeyDown = (event: React.KeyboardEvent) => {
    if (event.key !== 'Enter' || event.shiftKey || event.nativeEvent.isComposing) return;
    event.preventDefault();
    if (ready) onSend();
  };
  const onPaste = (event: React.ClipboardEvent) => {
    const files = [...event.clipboardData.files];
    if (!files.length) return;
    event.preventDefault();
    void uploads.add(files);
  };
  return (
    <div className="space-y-2">
      <UploadChips uploads={uploads.list} onRemove={uploads.remove} />
      <div className="rounded-3xl border border-line bg-card shadow-[0_1px_12px_rgb(0_0_0/0.05)] focus-within:border-accent">
        <textarea
          autoFocus
          aria-label="Goal"
          placeholder="Describe a goal; add files with it if you like"
          rows={1}
          value={text}
          onChange={(event) => onText(event.target.value)}
          onKeyDown={onKeyDown}
          onPaste={onPaste}
          className="field-sizing-content block max-h-56 min-h-12 w-full resize-none bg-transparent px-5 pt-3.5 pb-1 outline-none placeholder:text-soft"
        />
        <div className="flex items-center gap-1 px-2 pb-2">
          <FileButton onFiles={(files) => void uploads.add(files)} />
          <WayMenu way={way} onChange={onWay} />
          <span className="flex-1" />
          <MainButton state={state} ready={ready} onSend={onSend} onStop={onStop} />
        </div>
      </div>
    </div>
  );
}
