variable "project" {
  type        = string
  description = "Your project for the key: best one of its own, with nothing else in it."
}

variable "location" {
  type        = string
  description = "Where the key lives, for instance europe-west1."
}

variable "tenant_id" {
  type        = string
  description = "Your tenant id in the application. A name of a key: letters, digits, - and _."
}

variable "vendor_principal" {
  type        = string
  description = "The vendor's identity: principal://iam.googleapis.com/… of a workload identity pool, or serviceAccount:…"
}

variable "access_until" {
  type        = string
  description = "End of the vendor's access, RFC 3339, for instance the end of the contract."
}

variable "administrators" {
  type        = list(string)
  description = "Principals that may disable, enable and rotate versions. Revocation is theirs: keep one within reach."
}

variable "approvers" {
  type        = list(string)
  description = "Principals that approve a destruction. Other people than the destroyers."
}

variable "destroyers" {
  type        = list(string)
  description = "Principals that may ask for the right to destroy."
}
