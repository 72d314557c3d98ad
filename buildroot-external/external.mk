include $(sort $(wildcard $(BR2_EXTERNAL_ORAMA_PATH)/package/*/*.mk))
