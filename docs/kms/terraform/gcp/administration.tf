# Separate from use: these permissions do not decrypt, and those of access.tf do not administer.

resource "google_project_iam_custom_role" "administer" {
  project = var.project
  role_id = "fieldsealAdminister"
  title   = "Disables, enables and rotates the key; cannot use or destroy it"
  permissions = [
    "cloudkms.cryptoKeys.get", "cloudkms.cryptoKeys.update", "cloudkms.cryptoKeyVersions.get", "cloudkms.cryptoKeyVersions.list",
    "cloudkms.cryptoKeyVersions.create", "cloudkms.cryptoKeyVersions.update", "cloudkms.cryptoKeyVersions.restore",
  ]
}

# Revoking must be fast, so it asks for no approval.
resource "google_kms_crypto_key_iam_binding" "administer" {
  crypto_key_id = google_kms_crypto_key.fieldseal.id
  role          = google_project_iam_custom_role.administer.name
  members       = var.administrators
}
