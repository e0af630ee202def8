"""Settings from the environment over one TOML file, checked as a whole."""

from gateway.settings.groups import AuthSettings as AuthSettings
from gateway.settings.groups import DemoSettings as DemoSettings
from gateway.settings.groups import JournalSettings as JournalSettings
from gateway.settings.groups import MetricsSettings as MetricsSettings
from gateway.settings.groups import ServerSettings as ServerSettings
from gateway.settings.groups import StoreSettings as StoreSettings
from gateway.settings.loading import SettingsError as SettingsError
from gateway.settings.loading import load as load
from gateway.settings.secret import Secret as Secret
from gateway.settings.values import Settings as Settings
