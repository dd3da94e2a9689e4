# Destroying a version destroys the data under it. Nobody holds the right: it is asked for, approved by somebody else,
# lent for an hour, works only on disabled versions, and waits 30 days.

resource "google_project_iam_custom_role" "destroy" {
  project     = var.project
  role_id     = "fieldsealDestroy"
  title       = "Schedules versions for destruction"
  permissions = ["cloudkms.cryptoKeyVersions.destroy", "cloudkms.cryptoKeyVersions.get", "cloudkms.cryptoKeyVersions.list"]
}

resource "google_privileged_access_manager_entitlement" "destroy" {
  parent               = "projects/${var.project}"
  location             = "global"
  entitlement_id       = "fieldseal-destroy"
  max_request_duration = "3600s"

  eligible_users {
    principals = var.destroyers
  }

  privileged_access {
    gcp_iam_access {
      resource      = "//cloudresourcemanager.googleapis.com/projects/${var.project}"
      resource_type = "cloudresourcemanager.googleapis.com/Project"
      role_bindings {
        role = google_project_iam_custom_role.destroy.name
        # Within office hours, so that the approvers are awake.
        condition_expression = "request.time.getHours(\"UTC\") >= 8 && request.time.getHours(\"UTC\") < 16"
      }
    }
  }

  requester_justification_config {
    unstructured {}
  }

  approval_workflow {
    manual_approvals {
      require_approver_justification = true
      steps {
        approvals_needed = 1
        approvers {
          principals = var.approvers
        }
      }
    }
  }
}

# A version must be disabled first: the application notices before the data is lost.
resource "google_org_policy_policy" "disable_before_destroy" {
  name   = "projects/${var.project}/policies/cloudkms.disableBeforeDestroy"
  parent = "projects/${var.project}"

  spec {
    rules {
      enforce = "TRUE"
    }
  }
}
