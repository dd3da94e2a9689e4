import type { Bench } from './repositories.ts'
import type { Teller } from './told.ts'
import { Department, STORED, WRITTEN } from './ward.ts'

export function trees({ protects }: Teller, { clinic }: Bench): void {
  const tree = () => clinic().dataSource.getTreeRepository(Department)
  const stored = () => tree().findOneByOrFail({ head: STORED.email })
  const opened = { finds: true, gives: 'plaintext' } as const
  const shows = (operation: string, what: string, run: () => unknown) =>
    protects('TreeRepository', operation, what, opened, run)

  protects(
    'TreeRepository',
    'save',
    'under a stored parent',
    { seals: true, finds: true, gives: 'plaintext' },
    async () => tree().save({ head: WRITTEN.email, parent: await stored() }),
  )
  protects('TreeRepository', 'findTrees', 'the whole', { gives: 'plaintext' }, () => tree().findTrees())
  protects('TreeRepository', 'findRoots', 'the roots', { gives: 'plaintext' }, () => tree().findRoots())
  shows('findDescendants', 'as a list', async () => tree().findDescendants(await stored()))
  shows('findDescendantsTree', 'as a tree', async () => tree().findDescendantsTree(await stored()))
  shows('createDescendantsQueryBuilder', 'a builder of ours', async () =>
    tree()
      .createDescendantsQueryBuilder('d', 'c', await stored())
      .getMany(),
  )
  shows('findAncestors', 'as a list', async () => tree().findAncestors(await stored()))
  shows('findAncestorsTree', 'as a tree', async () => tree().findAncestorsTree(await stored()))
  shows('createAncestorsQueryBuilder', 'a builder of ours', async () =>
    tree()
      .createAncestorsQueryBuilder('d', 'c', await stored())
      .getMany(),
  )
  protects('TreeRepository', 'countDescendants', 'of one', { finds: true }, async () =>
    tree().countDescendants(await stored()),
  )
  protects('TreeRepository', 'countAncestors', 'of one', { finds: true }, async () =>
    tree().countAncestors(await stored()),
  )
}
