# What scripts/boots runs in its copies:
#   mail.py far          a mail server at port 25
#   mail.py send         sends a mail
#   mail.py ask N        prints what N clients are greeted with, 0.4 s apart
#   mail.py load UNTIL   a client each 10 ms, and three that are at work for two
#                        seconds, again and again, until the file UNTIL is there;
#                        prints how many were served, and who was not
import os
import socket
import sys
import threading
import time

MAIL = ((None, b"220"), (b"HELO x", b"250"), (b"MAIL FROM:<a@b>", b"250"), (b"RCPT TO:<c@d>", b"250"),
        (b"DATA", b"354"), (b"Subject: x\r\n\r\nhi\r\n.", b"250"), (b"QUIT", b"221"))


def far():
    listener = socket.create_server(("127.0.0.1", 25), backlog=1000)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client,), daemon=True).start()


def serve(client):
    text = False
    client.sendall(b"220 far\r\n")
    for line in client.makefile("rb"):
        if text:
            text = line != b".\r\n"
            if not text:
                client.sendall(b"250 taken\r\n")
            continue
        text = line[:4] == b"DATA"
        client.sendall({b"DATA": b"354 go on\r\n", b"QUIT": b"221 bye\r\n"}.get(line[:4], b"250 ok\r\n"))
    client.close()


def connect():
    client = socket.create_connection(("127.0.0.1", int(os.environ.get("PORT", "25"))), 60)
    client.settimeout(60)
    return client, client.makefile("rb")


def send(at_work=0):
    client, replies = connect()

    def say(what, want):
        if what:
            client.sendall(what + b"\r\n")
        got = replies.readline()
        if not got.startswith(want):
            raise OSError("%r, after %r" % (got, what))

    for what, want in MAIL:
        for _ in range(at_work if what == b"DATA" else 0):
            time.sleep(0.1)
            say(b"NOOP", b"250")
        say(what, want)
    client.close()


def ask(n):
    for _ in range(n):
        client, replies = connect()
        print(replies.readline().decode().strip(), flush=True)
        client.close()
        time.sleep(0.4)


def load(until):
    served, wrong, lock = {0: 0, 20: 0}, [], threading.Lock()

    def client(at_work):
        try:
            send(at_work)
            with lock:
                served[at_work] += 1
        except OSError as err:
            with lock:
                wrong.append("%s %r" % ("at work:" if at_work else "", err))

    def works():
        while not os.path.exists(until):
            client(20)

    threads = [threading.Thread(target=works) for _ in range(3)]
    for t in threads:
        t.start()
    while not os.path.exists(until):
        threads.append(threading.Thread(target=client, args=(0,)))
        threads[-1].start()
        time.sleep(0.01)
    for t in threads:
        t.join()
    print(served[0], served[20])
    if wrong:
        sys.exit("%d not served, first: %s" % (len(wrong), wrong[0]))


word = sys.argv[1]
if word == "far":
    far()
elif word == "send":
    send()
elif word == "ask":
    ask(int(sys.argv[2]))
else:
    load(sys.argv[2])
