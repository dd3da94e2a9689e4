# Separate from use: who administers the key cannot decrypt with it, and who uses it cannot administer it.
# There is no statement for the account's root: IAM policies alone grant nothing on this key. Whoever loses all
# policy editors needs AWS support to get the key policy back.

locals {
  administration = [
    {
      # Revoking must be fast, so it asks for no MFA. What an administrator disables, one may enable again.
      Sid       = "Administer"
      Effect    = "Allow"
      Principal = { AWS = var.administrators }
      Action = [
        "kms:DescribeKey", "kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListKeyRotations", "kms:ListGrants",
        "kms:ListResourceTags", "kms:DisableKey", "kms:EnableKey", "kms:EnableKeyRotation", "kms:RotateKeyOnDemand",
        "kms:RevokeGrant", "kms:CancelKeyDeletion", "kms:CreateAlias", "kms:UpdateAlias",
      ]
      Resource = "*"
    },
    {
      Sid       = "EditPolicy"
      Effect    = "Allow"
      Principal = { AWS = var.policy_editors }
      Action = [
        "kms:PutKeyPolicy", "kms:DescribeKey", "kms:GetKeyPolicy", "kms:GetKeyRotationStatus", "kms:ListResourceTags",
        "kms:EnableKeyRotation", "kms:CreateAlias", "kms:UpdateAlias",
      ]
      Resource = "*"
      Condition = {
        Bool            = { "aws:MultiFactorAuthPresent" = "true" }
        NumericLessThan = { "aws:MultiFactorAuthAge" = "3600" }
      }
    },
  ]
}
