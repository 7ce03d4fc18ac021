#!/usr/bin/env python3
"""usage: send.py RECIPIENT SUBJECT < TEXT"""

import smtplib
import sys
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import localtime, make_msgid

SENDER = "me@example.com"

if len(sys.argv) != 3:
    sys.exit(__doc__)
recipient, subject = sys.argv[1:]

mail = EmailMessage()
mail["From"] = SENDER
mail["To"] = recipient
mail["Subject"] = subject
mail["Date"] = localtime()
mail["Message-ID"] = make_msgid(domain=SENDER.partition("@")[2])
mail.set_content(sys.stdin.buffer.read().decode())

sent = False
try:
    with smtplib.SMTP("localhost", timeout=60) as server:
        server.sendmail(SENDER, [recipient], mail.as_bytes(policy=SMTP))
        sent = True
except smtplib.SMTPResponseException as why:
    if not sent:  # else it is only the good-bye that has failed
        text = why.smtp_error.decode(errors="replace")
        sys.exit(f"send.py: not sent: {why.smtp_code} {text}")
except OSError as why:
    if not sent:
        sys.exit(f"send.py: not sent: {why}")
