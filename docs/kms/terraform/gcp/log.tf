# Data Access logs are off by default; without them no use of the key is visible. They cost by volume.

resource "google_project_iam_audit_config" "kms" {
  project = var.project
  service = "cloudkms.googleapis.com"

  audit_log_config {
    log_type = "DATA_READ"
  }
  audit_log_config {
    log_type = "ADMIN_READ"
  }
}

# Impersonations of the service account.
resource "google_project_iam_audit_config" "tokens" {
  project = var.project
  service = "iamcredentials.googleapis.com"

  audit_log_config {
    log_type = "DATA_READ"
  }
}
