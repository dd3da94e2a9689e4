output "key" {
  value       = google_kms_crypto_key.fieldseal.id
  description = "Tell the vendor: the uri of the CMK."
}

output "service_account" {
  value       = google_service_account.fieldseal.email
  description = "Tell the vendor: the account to impersonate."
}
