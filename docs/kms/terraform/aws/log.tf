# Every change to the key reaches people. CloudTrail must be on in this account; its history keeps 90 days without a trail.

resource "aws_cloudwatch_event_rule" "key_changes" {
  name        = "fieldseal-key-changes"
  description = "Changes to the CMK ${aws_kms_key.fieldseal.arn}"
  event_pattern = jsonencode({
    source        = ["aws.kms"]
    "detail-type" = ["AWS API Call via CloudTrail"]
    detail = {
      eventSource = ["kms.amazonaws.com"]
      eventName = [
        "DisableKey", "EnableKey", "ScheduleKeyDeletion", "CancelKeyDeletion", "PutKeyPolicy", "CreateGrant",
        "RevokeGrant", "TagResource", "UntagResource", "UpdateAlias", "DeleteAlias",
      ]
      resources = { ARN = [aws_kms_key.fieldseal.arn] }
    }
  })
}

resource "aws_cloudwatch_event_target" "people" {
  rule = aws_cloudwatch_event_rule.key_changes.name
  arn  = var.alarm_topic_arn
}
