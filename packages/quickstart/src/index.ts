/** The parts of the story, for other stages and other key desks. */
export { openLocalDesk } from './local-desk.ts'
export { run, type Production } from './run.ts'
export { CACHE, openRegistry, type CmkName, type KeyDesk, type Patient, type Stage } from './stage.ts'
export { tellStory, type Findings, type Scene, type Telling } from './story.ts'
export { openTypeormStage, type TypeormStage } from './typeorm-stage.ts'
