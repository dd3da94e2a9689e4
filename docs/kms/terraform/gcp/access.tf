# What the vendor may do: act as one service account of this project, and with it use one key.
# IAM has no condition on additional authenticated data, so the key itself is what separates this tenant.

resource "google_service_account" "fieldseal" {
  project      = var.project
  account_id   = "fieldseal"
  display_name = "Uses the CMK for the vendor"
}

resource "google_service_account_iam_member" "vendor" {
  service_account_id = google_service_account.fieldseal.name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = var.vendor_principal

  condition {
    title      = "until the end of the contract"
    expression = "request.time < timestamp(\"${var.access_until}\")"
  }
}

resource "google_project_iam_custom_role" "use" {
  project     = var.project
  role_id     = "fieldsealUse"
  title       = "Wraps and unwraps with a key, and reads its state"
  permissions = ["cloudkms.cryptoKeyVersions.useToEncrypt", "cloudkms.cryptoKeyVersions.useToDecrypt", "cloudkms.cryptoKeys.get"]
}

resource "google_kms_crypto_key_iam_member" "use" {
  crypto_key_id = google_kms_crypto_key.fieldseal.id
  role          = google_project_iam_custom_role.use.name
  member        = google_service_account.fieldseal.member

  condition {
    title      = "until the end of the contract"
    expression = "request.time < timestamp(\"${var.access_until}\")"
  }
}
