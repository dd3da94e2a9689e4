output "key_arn" {
  value       = aws_kms_key.fieldseal.arn
  description = "Tell the vendor: the uri of the CMK."
}

output "role_arn" {
  value       = aws_iam_role.fieldseal.arn
  description = "Tell the vendor: the role to assume."
}
