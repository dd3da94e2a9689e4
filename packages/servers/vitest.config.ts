import { withServers } from '@fieldseal/config/vitest'

export default withServers('postgres', 'mongo')
