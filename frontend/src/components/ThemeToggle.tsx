import { Moon, Sun } from 'lucide-react';
import { useState } from 'react';

import { IconButton } from './Button';

function remember(theme: string): void {
  try {
    localStorage.setItem('orchestrion.theme', theme);
  } catch {
    // Forbidden storage: the choice lives as long as the page.
  }
}

export function ThemeToggle() {
  const [dark, setDark] = useState(() => document.documentElement.classList.contains('dark'));
  const toggle = () => {
    document.documentElement.classList.toggle('dark', !dark);
    remember(dark ? 'light' : 'dark');
    setDark(!dark);
  };
  return (
    <IconButton label={dark ? 'Use light colours' : 'Use dark colours'} onClick={toggle}>
      {dark ? <Sun size={17} /> : <Moon size={17} />}
    </IconButton>
  );
}
