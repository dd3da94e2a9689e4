export const page: string
export function operations(): { operation: string; what: string; refusal: string | undefined }[]
export function render(): string
