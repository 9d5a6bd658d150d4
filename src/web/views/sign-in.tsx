import { useState } from 'react'
import { describeState } from '../../client/index.ts'
import { ActionForm, Field } from './parts.tsx'
import { useApp, useAppState } from './use-app.ts'

type Step = { readonly kind: 'name' } | { readonly kind: 'returning' | 'new'; readonly name: string }

/** Asks for the name first, greets, then asks for the password. */
export function SignIn() {
  const app = useApp()
  const { connection } = useAppState()
  const [step, setStep] = useState<Step>({ kind: 'name' })
  const [name, setName] = useState('')
  const [password, setPassword] = useState('')
  const [again, setAgain] = useState('')

  const lookUp = async () => {
    const typed = name.trim()
    if (!/^[A-Za-z0-9_-]{1,50}$/.test(typed)) {
      throw new Error('A name has 1 to 50 characters: letters without accents, digits, "_" and "-".')
    }
    const found = await app.lookUpName(typed)
    if (!found.exists && !found.registrationOpen) {
      throw new Error(
        'There is no account of this name, and registration is closed. Ask an administrator for an account.',
      )
    }
    setPassword('')
    setAgain('')
    setStep({ kind: found.exists ? 'returning' : 'new', name: typed })
  }

  const enter = async () => {
    if (step.kind === 'name') return
    if (step.kind === 'new' && password !== again) throw new Error('The two passwords differ.')
    await app.signIn(step.kind === 'new' ? 'register' : 'logIn', step.name, password)
  }

  return (
    <main className="gate">
      <div className="gate-card">
        <div className="brand">
          <img src="./parley.svg" alt="" />
          <span>Parley</span>
        </div>
        {(connection.kind === 'noQuorum' || connection.kind === 'reconnecting') && (
          <p className="warning" role="status">
            {describeState(connection)}
          </p>
        )}
        {step.kind === 'name' ? (
          <>
            <h1>Who are you?</h1>
            <ActionForm key="name" action={lookUp} label="Go on" disabled={name.trim() === ''}>
              <Field
                label="Name"
                value={name}
                onChange={setName}
                autoComplete="username"
                autoFocus
                maxLength={60}
                hint="If nobody has this name yet, it becomes yours."
              />
            </ActionForm>
          </>
        ) : (
          <>
            <h1>
              {step.kind === 'returning' ? `Welcome back, ${step.name}` : `Welcome, new user ${step.name}`}
            </h1>
            <ActionForm
              key="password"
              action={enter}
              label={step.kind === 'returning' ? 'Sign in' : 'Make the account'}
              disabled={password === '' || (step.kind === 'new' && again === '')}
              extra={
                <button type="button" className="button plain" onClick={() => setStep({ kind: 'name' })}>
                  Another name
                </button>
              }
            >
              {/* Password managers want to see whom the password is for. */}
              <input
                type="text"
                className="hidden-visually"
                autoComplete="username"
                value={step.name}
                readOnly
                tabIndex={-1}
                aria-hidden="true"
              />
              <Field
                label={step.kind === 'returning' ? 'Password' : 'Choose a password'}
                type="password"
                value={password}
                onChange={setPassword}
                autoComplete={step.kind === 'returning' ? 'current-password' : 'new-password'}
                autoFocus
              />
              {step.kind === 'new' && (
                <Field
                  label="The same password again"
                  type="password"
                  value={again}
                  onChange={setAgain}
                  autoComplete="new-password"
                />
              )}
            </ActionForm>
          </>
        )}
      </div>
    </main>
  )
}
