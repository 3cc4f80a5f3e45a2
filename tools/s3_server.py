"""An S3 server on the loopback that checks signatures, for the tests: `s3_server.py LOG`.

Prints one line of JSON (endpoint, key, secret), has one bucket, `corpora`, appends a line per
request to LOG, and ends when its standard input is closed. Environment variables simulate faults:
answers of a megabyte or more take SLOW seconds, and every request in FAULTY is refused as if there
were too many.
"""

import itertools
import json
import logging
import os
import sys
import time

# The first three requests, which create the user, are not checked.
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "3"

import boto3
from moto.moto_server import threaded_moto_server
from moto.server import ThreadedMotoServer

slow, faulty = float(os.environ.get("SLOW", "0")), int(os.environ.get("FAULTY", "0"))
requests = itertools.count(1)
begun = False


class Application(threaded_moto_server.DomainDispatcherApplication):
    def __call__(self, environ, start_response):
        if begun and faulty and next(requests) % faulty == 0:
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>"]
        parts = list(super().__call__(environ, start_response))
        if slow and sum(map(len, parts)) >= 1 << 20:
            time.sleep(slow)
        return parts


threaded_moto_server.DomainDispatcherApplication = Application
log = logging.getLogger("werkzeug")
log.setLevel(logging.INFO)
log.addHandler(logging.FileHandler(sys.argv[1]))
log.propagate = False

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
endpoint = f"http://{host}:{port}"


def client(service, key, secret):
    return boto3.client(
        service, endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=key, aws_secret_access_key=secret
    )


iam = client("iam", "setup", "setup")
iam.create_user(UserName="medst")
key = iam.create_access_key(UserName="medst")["AccessKey"]
key, secret = key["AccessKeyId"], key["SecretAccessKey"]
everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
iam.put_user_policy(UserName="medst", PolicyName="all", PolicyDocument=json.dumps(everything))
client("s3", key, secret).create_bucket(Bucket="corpora")
print(json.dumps({"endpoint": endpoint, "key": key, "secret": secret}), flush=True)
begun = True
sys.stdin.read()
os._exit(0)
