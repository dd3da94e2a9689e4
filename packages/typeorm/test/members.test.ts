import { DataSource } from 'typeorm'
import { expect, it } from 'vitest'
import { assertMembers, reliedOn } from '../src/install/members.ts'

const dataSource = () => new DataSource({ type: 'postgres', host: 'localhost' })

it('this TypeORM has every member that the package relies on', () => {
  expect(() => assertMembers(dataSource())).not.toThrow()
  for (const { owner, of, members } of reliedOn(dataSource())) {
    for (const member of members) expect(Reflect.get(of, member), `${owner}.${member}`).toBeDefined()
  }
})

it('a TypeORM that lacks one is refused, naming the member', () => {
  const broken = dataSource()
  Object.setPrototypeOf(broken.driver, null)
  broken.driver.createQueryRunner = dataSource().driver.createQueryRunner.bind(dataSource().driver)
  expect(() => assertMembers(broken)).toThrow(/ERR_CONFIG_INVALID.*no Driver\./)
})
