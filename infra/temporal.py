"""One way to reach Temporal, for every process and test: converter, encryption and sandbox policy come in one plugin.

* Messages are Pydantic models; payloads are AES-256-GCM encrypted, and so are the attributes of failures (an error
  message can carry a name as well as an input can) and headers (a client may put anything into its X-Request-Id).
* The workflow sandbox is strict: a module a workflow file imports outside its passthrough block fails `Worker()`
  construction instead of being imported again on every run.
* A run that grows beyond our limits is noticed (`infra.limits_guard`).
"""

import dataclasses

from temporalio.client import Client, ClientConfig, HeaderCodecBehavior
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes
from temporalio.plugin import SimplePlugin
from temporalio.worker import ReplayerConfig
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import SandboxImportNotificationPolicy

from infra.correlation import Correlation
from infra.crypto import EncryptionCodec
from infra.limits_guard import LimitsGuard, payload_converter
from infra.settings import Settings


def data_converter(settings: Settings) -> DataConverter:
    """Pydantic in, ciphertext out; failures encoded the same way."""
    return dataclasses.replace(
        pydantic_data_converter,
        payload_converter_class=payload_converter(enforce=settings.workflow_limits == "raise"),
        payload_codec=EncryptionCodec.from_settings(settings),
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )


def sandbox_runner() -> SandboxedWorkflowRunner:
    """The sandbox with unintentional imports refused."""
    policy = (
        SandboxImportNotificationPolicy.WARN_ON_DYNAMIC_IMPORT
        | SandboxImportNotificationPolicy.RAISE_ON_UNINTENTIONAL_PASSTHROUGH
    )
    return SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default.with_import_notification_policy(policy))


class _EncryptedHeaders(SimplePlugin):
    """A plugin whose headers go through the codec too; the SDK leaves them in clear unless told. Workers ask their client."""

    def configure_client(self, config: ClientConfig) -> ClientConfig:
        config["header_codec_behavior"] = HeaderCodecBehavior.CODEC
        return super().configure_client(config)

    def configure_replayer(self, config: ReplayerConfig) -> ReplayerConfig:
        config["header_codec_behavior"] = HeaderCodecBehavior.CODEC
        return super().configure_replayer(config)


def plugin(settings: Settings) -> SimplePlugin:
    """What client, worker and replayer share."""
    return _EncryptedHeaders(
        "chama",
        data_converter=data_converter(settings),
        workflow_runner=sandbox_runner(),
        interceptors=[Correlation(), LimitsGuard(enforce=settings.workflow_limits == "raise")],
    )


async def connect(settings: Settings) -> Client:
    """A connected client. Raises RuntimeError while the server is down."""
    return await Client.connect(
        settings.temporal_address, namespace=settings.temporal_namespace, plugins=[plugin(settings)]
    )
