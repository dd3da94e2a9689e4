# What the vendor may do: assume one role of this account, and with it use one key for one tenant.

resource "aws_iam_role" "fieldseal" {
  name                 = "fieldseal"
  max_session_duration = 3600
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { AWS = var.vendor_role_arn }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "sts:ExternalId" = var.external_id } }
    }]
  })
}

locals {
  # The names of all pairs that Fieldseal sends; `model` and `row` only in mode direct.
  context_keys = ["app", "fieldseal", "tenant", "keyspace", "purpose", "kek", "model", "row"]

  use = [
    {
      Sid       = "FieldsealUse"
      Effect    = "Allow"
      Principal = { AWS = aws_iam_role.fieldseal.arn }
      Action    = ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey"]
      Resource  = "*"
      Condition = {
        StringEquals = {
          "kms:EncryptionContext:app"       = var.app
          "kms:EncryptionContext:fieldseal" = "1"
          "kms:EncryptionContext:tenant"    = var.tenant_id
          "kms:EncryptionContext:purpose"   = ["wrap", "index", "direct", "activate", "health"]
        }
        "ForAllValues:StringEquals" = { "kms:EncryptionContextKeys" = local.context_keys }
      }
    },
    {
      # Rewraps onto the newest material of this very key, under the same context; no way to another key.
      Sid       = "FieldsealRewrap"
      Effect    = "Allow"
      Principal = { AWS = aws_iam_role.fieldseal.arn }
      Action    = ["kms:ReEncryptFrom", "kms:ReEncryptTo"]
      Resource  = "*"
      Condition = {
        StringEquals = {
          "kms:EncryptionContext:app"    = var.app
          "kms:EncryptionContext:tenant" = var.tenant_id
        }
        Bool = { "kms:ReEncryptOnSameKey" = "true" }
      }
    },
    {
      # Carries no context, so it stands alone.
      Sid       = "FieldsealDescribe"
      Effect    = "Allow"
      Principal = { AWS = aws_iam_role.fieldseal.arn }
      Action    = "kms:DescribeKey"
      Resource  = "*"
    },
    {
      # Whatever else is granted later: nobody decrypts outside this tenant's context.
      Sid       = "DenyForeignContext"
      Effect    = "Deny"
      Principal = { AWS = "*" }
      Action    = ["kms:Decrypt", "kms:ReEncryptFrom"]
      Resource  = "*"
      Condition = { StringNotEquals = { "kms:EncryptionContext:tenant" = var.tenant_id } }
    },
  ]
}
