import { FitAddon } from '@xterm/addon-fit';
import { Terminal as Xterm } from '@xterm/xterm';
import '@xterm/xterm/css/xterm.css';
import { RotateCw } from 'lucide-react';
import { useEffect, useRef, useState } from 'react';

import { openTerminal } from '@/api/sandboxes';
import { Button } from '@/components/Button';

/** The page's own colours, so that the terminal follows light and dark. */
function theme(): { background: string; foreground: string; cursor: string; selectionBackground: string } {
  const style = getComputedStyle(document.documentElement);
  const colour = (name: string): string => style.getPropertyValue(name).trim();
  return {
    background: colour('--sunk'),
    foreground: colour('--ink'),
    cursor: colour('--accent'),
    selectionBackground: colour('--line'),
  };
}

function start(box: HTMLElement, sandbox: string, onEnd: (reason: string) => void): () => void {
  const terminal = new Xterm({
    fontFamily: getComputedStyle(document.body).getPropertyValue('--font-mono') || 'monospace',
    fontSize: 13,
    cursorBlink: true,
    scrollback: 5000,
    theme: theme(),
  });
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  terminal.open(box);
  fit.fit();
  const socket = openTerminal(sandbox, terminal.cols, terminal.rows);
  const encoder = new TextEncoder();
  const send = (data: string | Uint8Array<ArrayBuffer>): void => {
    if (socket.readyState === WebSocket.OPEN) socket.send(data);
  };
  terminal.onData((typed) => send(encoder.encode(typed)));
  terminal.onResize(({ cols, rows }) => send(JSON.stringify({ resize: [cols, rows] })));
  socket.onopen = () => terminal.focus();
  socket.onmessage = ({ data }: MessageEvent<ArrayBuffer>) => terminal.write(new Uint8Array(data));
  socket.onclose = ({ code, reason }) => onEnd(code === 1000 ? 'The shell has ended.' : reason || 'The connection was lost.');
  const sizes = new ResizeObserver(() => fit.fit());
  sizes.observe(box);
  const looks = new MutationObserver(() => (terminal.options.theme = theme()));
  looks.observe(document.documentElement, { attributes: true, attributeFilter: ['class'] });
  return () => {
    sizes.disconnect();
    looks.disconnect();
    socket.onclose = null;
    socket.close();
    terminal.dispose();
  };
}

/** A shell inside the sandbox. It ends when this is closed. */
export function Terminal({ sandbox }: { sandbox: string }) {
  const box = useRef<HTMLDivElement>(null);
  const [ended, setEnded] = useState('');
  const [round, setRound] = useState(0);
  useEffect(() => {
    setEnded('');
    return box.current ? start(box.current, sandbox, setEnded) : undefined;
  }, [sandbox, round]);
  return (
    <div className="flex h-full flex-col gap-2">
      <div ref={box} className="min-h-0 flex-1 overflow-hidden rounded-lg bg-sunk p-2" data-testid="terminal" />
      {ended && (
        <p className="flex items-center gap-3 text-sm text-soft">
          {ended}
          <Button onClick={() => setRound(round + 1)}>
            <RotateCw size={14} aria-hidden="true" /> New shell
          </Button>
        </p>
      )}
    </div>
  );
}
