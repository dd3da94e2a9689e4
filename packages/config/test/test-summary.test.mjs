import { expect, it } from 'vitest'
import { countTests, notRunPerFile, serverLines, summaryLine } from '../test-summary.mjs'

const file = (status, ...tests) => ({ status, assertionResults: tests.map((test) => ({ status: test })) })

it('counts tests of all files', () => {
  const report = { testResults: [file('passed', 'passed', 'passed'), file('failed', 'passed', 'failed', 'skipped')] }
  expect(countTests(report, 1)).toEqual({ passed: 3, failed: 1, notRun: 1 })
})

it('counts a file that could not be loaded as one failure', () => {
  expect(countTests({ testResults: [file('failed'), file('passed', 'passed')] }, 1)).toMatchObject({ failed: 1 })
})

it('counts a file whose hook failed as one failure', () => {
  expect(countTests({ testResults: [file('failed', 'skipped')] }, 1)).toMatchObject({ failed: 1, notRun: 1 })
})

it('counts a run that crashed as one failure, whatever it had passed', () => {
  expect(countTests(undefined, 1)).toEqual({ passed: 0, failed: 1, notRun: 0 })
  expect(countTests({ testResults: [file('passed', 'passed')] }, 134)).toMatchObject({ passed: 1, failed: 1 })
})

it('ends in one line', () => {
  expect(summaryLine({ passed: 12, failed: 0 })).toBe('12 passed, 0 failed')
})

it('says how many tests of which file were not run', () => {
  const report = { testResults: [{ name: '/r/test/a.test.ts', ...file('passed', 'passed', 'skipped', 'pending') }] }
  expect(notRunPerFile(report, '/r')).toEqual(['not run: 2 of test/a.test.ts'])
  expect(notRunPerFile(undefined, '/r')).toEqual([])
})

it('repeats what was said about servers, once', () => {
  const said = 'servers: PostgreSQL 17.1 from POSTGRES_URL\n'
  expect(serverLines(`x\n${said}y servers: z\n${said}`)).toEqual(['PostgreSQL 17.1 from POSTGRES_URL'])
})
