import * as Menu from '@radix-ui/react-dropdown-menu';
import { Ellipsis, Pencil, Trash2 } from 'lucide-react';
import { useRef, useState } from 'react';

import type { Session } from '@/api/records';
import { IconButton } from '@/components/Button';
import { formatWhen } from '@/lib/format';

interface SessionRowProps {
  session: Session;
  current: boolean;
  onOpen: () => void;
  onRename: (title: string) => void;
  onDelete: () => void;
}

function TitleField({ title, onDone }: { title: string; onDone: (title: string | null) => void }) {
  const [text, setText] = useState(title);
  // Escape takes the field away, and its blur must not save then.
  const settled = useRef(false);
  const settle = (result: string | null) => {
    if (settled.current) return;
    settled.current = true;
    onDone(result?.trim() || null);
  };
  return (
    <form onSubmit={(event) => (event.preventDefault(), settle(text))}>
      <input
        autoFocus
        aria-label="Session title"
        value={text}
        maxLength={200}
        onChange={(event) => setText(event.target.value)}
        onFocus={(event) => event.target.select()}
        onBlur={() => settle(text)}
        onKeyDown={(event) => event.key === 'Escape' && settle(null)}
        className="h-12 w-full rounded-xl border border-accent bg-card px-3 text-sm"
      />
    </form>
  );
}

function Actions({ title, onRename, onDelete }: { title: string; onRename: () => void; onDelete: () => void }) {
  const item = 'flex items-center gap-2.5 rounded-lg px-3 py-2 text-sm outline-none data-[highlighted]:bg-sunk';
  return (
    <Menu.Root>
      <Menu.Trigger asChild>
        <IconButton
          label={`Actions for ${title}`}
          className="absolute top-1.5 right-1 opacity-0 group-focus-within:opacity-100 group-hover:opacity-100 focus-visible:opacity-100 data-[state=open]:opacity-100 pointer-coarse:opacity-100"
        >
          <Ellipsis size={16} />
        </IconButton>
      </Menu.Trigger>
      <Menu.Portal>
        <Menu.Content
          align="end"
          // The title's field takes the focus when it appears; the menu must not fetch it back.
          onCloseAutoFocus={(event) => event.preventDefault()}
          className="fade-in z-60 min-w-36 rounded-xl border border-line bg-card p-1 shadow-lg"
        >
          <Menu.Item className={item} onSelect={onRename}>
            <Pencil size={15} aria-hidden="true" /> Rename
          </Menu.Item>
          <Menu.Item className={`${item} text-bad`} onSelect={onDelete}>
            <Trash2 size={15} aria-hidden="true" /> Delete…
          </Menu.Item>
        </Menu.Content>
      </Menu.Portal>
    </Menu.Root>
  );
}

/** One session of the list: open, rename, delete. */
export function SessionRow({ session, current, onOpen, onRename, onDelete }: SessionRowProps) {
  const [renaming, setRenaming] = useState(false);
  const title = session.title || 'Untitled';
  if (renaming)
    return (
      <li>
        <TitleField title={title} onDone={(text) => (setRenaming(false), text && text !== title && onRename(text))} />
      </li>
    );
  return (
    <li className="group relative">
      <a
        href={`#/s/${session.session_id}`}
        aria-current={current ? 'page' : undefined}
        onClick={onOpen}
        className={`block rounded-xl py-1.5 pr-10 pl-3 ${current ? 'bg-tint' : 'hover:bg-sunk'}`}
      >
        <span className="block truncate text-sm">{title}</span>
        <span className="block text-xs text-soft">{formatWhen(session.updated_at)}</span>
      </a>
      <Actions title={title} onRename={() => setRenaming(true)} onDelete={onDelete} />
    </li>
  );
}
