import { FolderOpen, PanelLeft, SquareTerminal } from 'lucide-react';

import { IconButton } from '@/components/Button';
import { ThemeToggle } from '@/components/ThemeToggle';

interface TopBarProps {
  title: string;
  hasSession: boolean;
  onMenu: () => void;
  onFiles: () => void;
  onSandbox: () => void;
}

export function TopBar({ title, hasSession, onMenu, onFiles, onSandbox }: TopBarProps) {
  return (
    <header className="flex h-14 flex-none items-center gap-1 px-3">
      <IconButton label="Sessions" className="md:hidden" onClick={onMenu}>
        <PanelLeft size={18} />
      </IconButton>
      <p className="min-w-0 flex-1 truncate px-2 text-sm text-soft">{title}</p>
      {hasSession && (
        <IconButton label="Sandbox of this session" onClick={onSandbox}>
          <SquareTerminal size={18} />
        </IconButton>
      )}
      {hasSession && (
        <IconButton label="Files of this session" onClick={onFiles}>
          <FolderOpen size={18} />
        </IconButton>
      )}
      <ThemeToggle />
    </header>
  );
}
