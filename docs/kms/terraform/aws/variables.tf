variable "app" {
  type        = string
  description = "The `app` of createFieldseal, as the vendor of the application tells it."
}

variable "tenant_id" {
  type        = string
  description = "Your tenant id in the application. Opaque: it stands in CloudTrail in clear."
}

variable "vendor_role_arn" {
  type        = string
  description = "The vendor's role that assumes yours: arn:aws:iam::<vendor account>:role/<name>."
}

variable "external_id" {
  type        = string
  description = "Unique per tenant, made by the vendor. Not a secret: it keeps other tenants from naming your role."
}

variable "administrators" {
  type        = list(string)
  description = "Role ARNs that may disable, enable and rotate the key. Revocation is theirs: keep one within reach."
}

variable "policy_editors" {
  type        = list(string)
  description = "Role ARNs that may change the key policy, with MFA. Terraform runs as one of them."
}

variable "approvers" {
  type        = list(string)
  description = "Role ARNs that may approve the key's destruction, with MFA. Other people than the destroyers."
}

variable "destroyers" {
  type        = list(string)
  description = "Role ARNs that may schedule the approved destruction, with MFA, within the window."
}

variable "destruction_from" {
  type        = string
  default     = "2000-01-01T00:00:00Z"
  description = "Begin of the window for destruction. The default window is empty: nobody destroys the key."
}

variable "destruction_until" {
  type        = string
  default     = "2000-01-01T00:00:00Z"
  description = "End of the window for destruction."
}

variable "alarm_topic_arn" {
  type        = string
  description = "An SNS topic that hears of every change to the key."
}
