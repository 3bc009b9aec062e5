import { createContext, useContext } from 'react';

export interface SessionFiles {
  session: string;
  /** Show a file of the session's workspace. */
  open: (path: string) => void;
}

const Context = createContext<SessionFiles>({ session: '', open: () => undefined });

export const SessionFilesProvider = Context.Provider;

/** The session whose files relative links and pictures belong to. */
export function useSessionFiles(): SessionFiles {
  return useContext(Context);
}
