resource "aws_kms_key" "fieldseal" {
  description             = "CMK of tenant ${var.tenant_id} for ${var.app}"
  enable_key_rotation     = true
  rotation_period_in_days = 180
  deletion_window_in_days = 30
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = concat(local.use, local.administration, local.destruction)
  })

  lifecycle {
    # The tag is the approval of a destruction; see destruction.tf.
    ignore_changes  = [tags]
    prevent_destroy = true
  }
}

resource "aws_kms_alias" "fieldseal" {
  name          = "alias/fieldseal-${var.tenant_id}"
  target_key_id = aws_kms_key.fieldseal.key_id
}
