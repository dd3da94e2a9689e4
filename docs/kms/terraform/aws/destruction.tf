# Destroying the key destroys the data. It takes two people, MFA of both, a window in time, and 30 days.
# The first sets the tag `fieldseal-destroy-approved`; only then, and only within the window, may the second schedule.

locals {
  destruction = [
    {
      Sid       = "ApproveDestruction"
      Effect    = "Allow"
      Principal = { AWS = var.approvers }
      Action    = ["kms:TagResource", "kms:UntagResource"]
      Resource  = "*"
      Condition = {
        "ForAllValues:StringEquals" = { "aws:TagKeys" = ["fieldseal-destroy-approved"] }
        Null                        = { "aws:TagKeys" = "false" }
        Bool                        = { "aws:MultiFactorAuthPresent" = "true" }
        NumericLessThan             = { "aws:MultiFactorAuthAge" = "900" }
      }
    },
    {
      Sid       = "ScheduleDestruction"
      Effect    = "Allow"
      Principal = { AWS = var.destroyers }
      Action    = "kms:ScheduleKeyDeletion"
      Resource  = "*"
      Condition = {
        StringEquals             = { "aws:ResourceTag/fieldseal-destroy-approved" = "yes" }
        Bool                     = { "aws:MultiFactorAuthPresent" = "true" }
        NumericLessThan          = { "aws:MultiFactorAuthAge" = "900" }
        NumericGreaterThanEquals = { "kms:ScheduleKeyDeletionPendingWindowInDays" = "30" }
        DateGreaterThanEquals    = { "aws:CurrentTime" = var.destruction_from }
        DateLessThan             = { "aws:CurrentTime" = var.destruction_until }
      }
    },
  ]
}
