resource "google_kms_key_ring" "fieldseal" {
  project  = var.project
  location = var.location
  name     = "fieldseal"
}

resource "google_kms_crypto_key" "fieldseal" {
  name                       = var.tenant_id
  key_ring                   = google_kms_key_ring.fieldseal.id
  purpose                    = "ENCRYPT_DECRYPT"
  rotation_period            = "15552000s"
  destroy_scheduled_duration = "2592000s"

  version_template {
    algorithm        = "GOOGLE_SYMMETRIC_ENCRYPTION"
    protection_level = "HSM"
  }

  lifecycle {
    prevent_destroy = true
  }
}
